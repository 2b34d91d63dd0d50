"""The build backend: setuptools, with mypyc where this machine can compile.

An install is either compiled or pure, never a mixture. `IOTD_BUILD` in the environment chooses:

- `auto` (the default): if a five-line extension compiles and links here, the core is compiled with
  the hot part of the storage engine, and whatever fails after that fails the install; if it does
  not, the wheel is pure Python.
- `compiled`: they are compiled, or the install fails.
- `pure`: nothing is compiled.

An editable install is always pure: extensions beside source that is being edited are soon the
extensions of other source.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Final, TypeAlias, cast

from setuptools import Extension, build_meta
from setuptools.build_meta import (
    build_sdist,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "ENGINE_MODULES",
    "Build",
    "BuildError",
    "build_editable",
    "build_options",
    "build_sdist",
    "build_wheel",
    "chosen_build",
    "compiled_modules",
    "core_modules",
    "extensions",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
    "why_not_compiled",
]

ConfigSettings: TypeAlias = Mapping[str, str | list[str] | None] | None

ROOT: Final = Path(__file__).resolve().parent.parent
VARIABLE: Final = "IOTD_BUILD"

# One exact version: the code it generates must fit the runtime library that the wheel asks for
# (librt), and two builds of one release must be the same. Raised together with pyproject.toml.
COMPILER_REQUIREMENTS: Final = ("mypy==2.4.1",)

# Of the storage engine, what runs for each message: in the core's unit, because it has the core's
# objects in its hands all the time. The rest runs for each batch, or talks to SQLite.
ENGINE_MODULES: Final = (
    "adapters/storage/_batch.py",
    "adapters/storage/_engine.py",
    "adapters/storage/_folding.py",
    "adapters/storage/_index.py",
    "adapters/storage/_writing.py",
)

PROBE_SOURCE: Final = """\
#define PY_SSIZE_T_CLEAN
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "iotd_probe", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_iotd_probe(void);
PyMODINIT_FUNC PyInit_iotd_probe(void) { return PyModule_Create(&module); }
"""
PROBE_SETUP: Final = """\
from setuptools import Extension, setup
setup(name="iotd_probe", ext_modules=[Extension("iotd_probe", ["iotd_probe.c"])], py_modules=[])
"""
PROBE_TIMEOUT_S: Final = 120


class Build(Enum):
    """What kind of build is wanted, in the words of `IOTD_BUILD`."""

    AUTO = "auto"
    PURE = "pure"
    COMPILED = "compiled"


class BuildError(SystemExit):
    """The build that was asked for cannot be made; ends the install with a line that says why."""


class _Plan:
    """What `build_wheel` tells `setup.py`, which setuptools runs without arguments of ours."""

    folder: Path | None = None  # where everything is built; None: not building a wheel
    compiled = False


def chosen_build(environ: Mapping[str, str]) -> Build:
    """Return what `IOTD_BUILD` asks for; raise `BuildError` if it is no word we know."""
    value = environ.get(VARIABLE, "") or Build.AUTO.value
    try:
        return Build(value)
    except ValueError:
        known = ", ".join(build.value for build in Build)
        raise BuildError(
            f"{VARIABLE}={value!r} is not a build: set it to one of {known}."
        ) from None


def why_not_compiled(environ: Mapping[str, str]) -> str | None:
    """Compile and link a five-line extension; return None if that works, else what went wrong."""
    with tempfile.TemporaryDirectory(prefix="iotd-probe-") as folder:
        Path(folder, "iotd_probe.c").write_text(PROBE_SOURCE, encoding="utf-8")
        Path(folder, "setup.py").write_text(PROBE_SETUP, encoding="utf-8")
        try:
            result = subprocess.run(
                [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
                cwd=folder,
                env=dict(environ),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PROBE_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    if result.returncode == 0:
        return None
    lines = [line for line in (result.stdout + result.stderr).splitlines() if line.strip()]
    # The compiler names the cause (Python.h is missing), the last line only that there was one.
    causes = [line for line in lines if "error" in line.lower()]
    return (causes or lines or ["the compiler failed without a word"])[0].strip()


def _compiles(environ: Mapping[str, str]) -> bool:
    """Decide between the two builds; raise `BuildError` if the wanted one cannot be made."""
    wanted = chosen_build(environ)
    if wanted is Build.PURE:
        return False
    reason = why_not_compiled(environ)
    if reason is None:
        return True
    if wanted is Build.COMPILED:
        raise BuildError(
            f"{VARIABLE}=compiled, but a five-line C extension does not build here: {reason}\n"
            "Install a C compiler and the Python headers (Debian: apt-get install gcc "
            f"python3-dev), or set {VARIABLE}=auto or pure for the pure Python build."
        )
    print(f"iotd: pure Python build, because no C extension can be built here: {reason}")
    return False


def core_modules() -> list[str]:
    """Return the core's source files, relative to the root: all of them, so no half is left out."""
    return [path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("mqtt_core/**/*.py"))]


def compiled_modules() -> list[str]:
    """Return what is compiled: the core, and of the storage engine what runs for each message."""
    return [*core_modules(), *ENGINE_MODULES]


def build_options() -> dict[str, dict[str, str]]:
    """Return the options of setuptools' commands: a wheel is built where nothing old lies about."""
    if _Plan.folder is None:
        return {}
    return {"build": {"build_base": str(_Plan.folder / "build")}}


def extensions() -> list[Extension]:
    """Return what is to be compiled, all of it as one unit, or nothing."""
    if _Plan.folder is None or not _Plan.compiled:
        return []
    try:
        from mypyc.build import mypycify
    except ImportError:
        needed = " ".join(COMPILER_REQUIREMENTS)
        raise BuildError(
            "The core can be compiled here, but its compiler is not installed: pip install "
            f"{needed} (a build in isolation does so itself), or set {VARIABLE}=pure."
        ) from None
    made = mypycify(
        [
            "--config-file=",
            f"--cache-dir={_Plan.folder / 'types'}",
            # `adapters` has no __init__.py. What its other modules import need not be here; they
            # themselves are given, or they might be those of another version. Not those below
            # them, whose classes are made by libraries that a build does without.
            "--explicit-package-bases",
            "--ignore-missing-imports",
            *core_modules(),
            *[each.relative_to(ROOT).as_posix() for each in ROOT.glob("adapters/storage/*.py")],
        ],
        only_compile_paths=compiled_modules(),
        opt_level="3",
        # One group: calls between its modules are C calls, and no part of it can be of another age
        # than the rest.
        separate=False,
        group_name="mqtt_core",
        target_dir=str(_Plan.folder / "c"),
    )
    # mypyc's word is wider: it can do without setuptools, which is what called us.
    return cast("list[Extension]", made)


def get_requires_for_build_wheel(config_settings: ConfigSettings = None) -> list[str]:
    """Return the compiler where it can be used, and nothing elsewhere."""
    return list(COMPILER_REQUIREMENTS) if _compiles(os.environ) else []


def get_requires_for_build_editable(config_settings: ConfigSettings = None) -> list[str]:
    """Return nothing: an editable install is pure; raise `BuildError` if it was to be compiled."""
    if chosen_build(os.environ) is Build.COMPILED:
        raise BuildError(
            f"{VARIABLE}=compiled, but an editable install is always pure: install without -e."
        )
    return []


def build_wheel(
    wheel_directory: str,
    config_settings: ConfigSettings = None,
    metadata_directory: str | None = None,
) -> str:
    """Build the wheel, compiled or pure, and return its file name."""
    _Plan.compiled = _compiles(os.environ)
    # Inside the tree, because setuptools wants the path of every source relative to it.
    Path("build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="wheel-", dir="build") as folder:
        _Plan.folder = Path(os.path.relpath(folder))
        try:
            return build_meta.build_wheel(wheel_directory, config_settings, metadata_directory)
        finally:
            _Plan.folder = None


def build_editable(
    wheel_directory: str,
    config_settings: ConfigSettings = None,
    metadata_directory: str | None = None,
) -> str:
    """Build the wheel that points at this folder, always pure, and return its file name."""
    return build_meta.build_editable(wheel_directory, config_settings, metadata_directory)
