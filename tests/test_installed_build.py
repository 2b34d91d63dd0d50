"""What is installed is one build, whole: pure from the source tree, or compiled from the wheel."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import pkgutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path

import pytest

import iotd_build
import mqtt_core

ROOT = Path(__file__).resolve().parents[1]


def core_modules() -> dict[str, str]:
    """The file of each module of the core that is importable here."""
    found = pkgutil.walk_packages(mqtt_core.__path__, "mqtt_core.")
    modules = [mqtt_core, *(importlib.import_module(module.name) for module in found)]
    return {module.__name__: str(module.__file__) for module in modules}


def module_name(path: str) -> str:
    return ".".join(Path(path).with_suffix("").parts).removesuffix(".__init__")


def test_every_module_of_the_unit_is_of_the_same_build() -> None:
    files = core_modules()
    for name in map(module_name, iotd_build.ENGINE_MODULES):
        files[name] = str(importlib.import_module(name).__file__)
    is_compiled = files["mqtt_core"].endswith(tuple(EXTENSION_SUFFIXES))
    suffixes = EXTENSION_SUFFIXES if is_compiled else SOURCE_SUFFIXES
    assert [name for name, file in files.items() if not file.endswith(tuple(suffixes))] == []
    # conftest.py has refused any other build than the one that was asked for.
    assert os.environ.get("IOTD_EXPECT_BUILD") in (None, "compiled" if is_compiled else "pure")


def test_no_module_of_the_core_is_left_out() -> None:
    assert set(core_modules()) == set(map(module_name, iotd_build.core_modules()))


def test_programs_that_tests_start_run_the_same_build() -> None:
    """An interpreter puts the folder it starts in on the path, unless it is told not to."""
    result = subprocess.run(
        [sys.executable, "-c", "import mqtt_core; print(mqtt_core.__file__)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == mqtt_core.__file__


@pytest.mark.wheel
def test_the_installed_wheel_has_source_and_extension_of_every_module() -> None:
    files = {str(file) for file in importlib.metadata.files("iotd") or []}
    for source in iotd_build.compiled_modules():
        assert source in files
        stem = source.removesuffix(".py")
        assert any(file.startswith(f"{stem}.cpython") for file in files), source


@pytest.mark.wheel
def test_the_installed_wheel_has_types_and_traces_and_nothing_else() -> None:
    files = {str(file) for file in importlib.metadata.files("iotd") or []}
    for pattern in ("*/**/py.typed", "conformance/**/*.trace", "conformance/**/*.tsv"):
        paths = [path.relative_to(ROOT) for path in ROOT.glob(pattern)]
        shipped = [path.as_posix() for path in paths if not path.parts[0].startswith(".")]
        assert shipped, pattern
        assert set(shipped) <= files
    tops = {
        file.split("/")[0].split("__mypyc")[0] for file in files if file.endswith((".py", ".so"))
    }
    assert tops == {"adapters", "conformance", "iotd", "mqtt_core"}
