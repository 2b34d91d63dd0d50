"""How a build is chosen, and what is built where there is no compiler."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import iotd_build
from iotd_build import Build, BuildError

pytestmark = pytest.mark.source

ROOT = Path(__file__).resolve().parents[1]
NO_COMPILER = {"CC": "/bin/false", "CXX": "/bin/false"}


def without_compiler(monkeypatch: pytest.MonkeyPatch, build: str) -> None:
    for name, value in NO_COMPILER.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("IOTD_BUILD", build)


@pytest.mark.parametrize(
    ("environ", "build"),
    [
        ({}, Build.AUTO),
        ({"IOTD_BUILD": ""}, Build.AUTO),
        ({"IOTD_BUILD": "auto"}, Build.AUTO),
        ({"IOTD_BUILD": "pure"}, Build.PURE),
        ({"IOTD_BUILD": "compiled"}, Build.COMPILED),
    ],
)
def test_the_environment_chooses_the_build(environ: dict[str, str], build: Build) -> None:
    assert iotd_build.chosen_build(environ) is build


@pytest.mark.parametrize("value", ["fast", "Pure", "1", " auto"])
def test_an_unknown_build_is_refused_with_the_known_ones(value: str) -> None:
    with pytest.raises(BuildError) as caught:
        iotd_build.chosen_build({"IOTD_BUILD": value})
    assert str(caught.value) == (
        f"IOTD_BUILD={value!r} is not a build: set it to one of auto, pure, compiled."
    )


def test_a_compiler_that_fails_is_no_compiler() -> None:
    reason = iotd_build.why_not_compiled({**os.environ, **NO_COMPILER})
    assert reason is not None
    assert "/bin/false" in reason


def test_a_compiler_that_is_not_there_is_no_compiler(tmp_path: Path) -> None:
    environ = {**os.environ, "PATH": str(tmp_path), "CC": "no-such-compiler"}
    reason = iotd_build.why_not_compiled(environ)
    assert reason is not None
    assert "no-such-compiler" in reason


def test_python_headers_that_are_not_there_are_no_compiler(tmp_path: Path) -> None:
    compiler = tmp_path / "cc-without-headers"
    compiler.write_text("#!/bin/sh\necho 'fatal error: Python.h: No such file' >&2\nexit 1\n")
    compiler.chmod(0o755)
    reason = iotd_build.why_not_compiled({**os.environ, "CC": str(compiler)})
    assert reason == "fatal error: Python.h: No such file"


@pytest.mark.parametrize("build", ["auto", "pure"])
def test_without_a_compiler_nothing_more_is_required(
    monkeypatch: pytest.MonkeyPatch, build: str
) -> None:
    without_compiler(monkeypatch, build)
    assert iotd_build.get_requires_for_build_wheel() == []


def test_a_compiled_build_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    without_compiler(monkeypatch, "compiled")
    with pytest.raises(BuildError, match="apt-get install gcc python3-dev"):
        iotd_build.get_requires_for_build_wheel()


def test_the_compiler_is_not_looked_for_where_none_is_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IOTD_BUILD", "pure")
    assert iotd_build.get_requires_for_build_wheel() == []


def test_an_editable_install_is_pure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IOTD_BUILD", "auto")
    assert iotd_build.get_requires_for_build_editable() == []
    assert iotd_build.extensions() == []


def test_an_editable_install_that_was_to_be_compiled_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("IOTD_BUILD", "compiled")
    with pytest.raises(BuildError, match="install without -e"):
        iotd_build.get_requires_for_build_editable()


@pytest.mark.parametrize("extra", ["lint", "test"])
def test_the_build_compiles_with_the_mypy_that_checks(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(iotd_build.COMPILER_REQUIREMENTS) <= set(project["optional-dependencies"][extra])


def test_what_is_compiled_is_checked_for_any() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (modules,) = [
        override["module"]
        for override in project["tool"]["mypy"]["overrides"]
        if override.get("disallow_any_explicit")
    ]
    paths = [module.replace(".", "/") + ".py" for module in modules if module != "mqtt_core.*"]
    assert tuple(paths) == iotd_build.ENGINE_MODULES


@pytest.mark.slow
def test_an_install_without_a_compiler_is_pure_and_says_so(tmp_path: Path) -> None:
    wheels, site = tmp_path / "wheels", tmp_path / "site"
    environ = {**os.environ, **NO_COMPILER, "IOTD_BUILD": "auto"}
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    wheel = [*pip, "wheel", *offline, "--wheel-dir", str(wheels), str(ROOT)]
    subprocess.run(wheel, env=environ, check=True, capture_output=True)
    (built,) = wheels.iterdir()
    assert built.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(built) as archive:
        names = archive.namelist()
    assert [name for name in names if name.endswith((".so", ".pyd", ".c"))] == []
    assert set(iotd_build.core_modules()) <= set(names)

    install = [*pip, "install", *offline, "--target", str(site), str(built)]
    subprocess.run(install, env=environ, check=True, capture_output=True)
    version = subprocess.run(
        [str(site / "bin" / "iotd"), "--version"],
        env={**environ, "PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "pure" in version.stdout
    assert "compiled" not in version.stdout
