"""Who may name whom, read from the source: the arrows of docs/architecture.md.

The import statements are read, not the loaded modules: an interpreter loads `os` and `time` by
itself, and an import inside a function is seen by no one who only looks at `sys.modules`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.source

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("mqtt_core", "adapters", "iotd", "conformance")

# What the core may name besides itself and the pure parts of the standard library.
CORE_LIBRARIES = {"librt.strings", "librt.vecs", "librt.base64", "mypy_extensions"}

# The outside world: time, chance, threads, files, sockets, logs.
OUTSIDE_WORLD = {
    "asyncio", "concurrent", "contextvars", "datetime", "fcntl", "getpass", "http", "importlib",
    "io", "locale", "logging", "mmap", "multiprocessing", "os", "pathlib", "pickle", "platform",
    "queue", "random", "resource", "sched", "secrets", "select", "selectors", "shelve", "shutil",
    "signal", "socket", "socketserver", "sqlite3", "ssl", "subprocess", "tempfile", "threading",
    "time", "tkinter", "urllib", "uuid", "warnings", "zoneinfo", "_thread",
}  # fmt: skip
OUTSIDE_CALLS = {"__import__", "breakpoint", "eval", "exec", "input", "open", "print"}

ASYNCIO = {"asyncio", "uvloop"}
GEVENT = {"gevent", "greenlet"}


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name, and whether it is a package's `__init__`."""

    path: Path
    name: str
    is_package: bool
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.name if self.is_package else self.name.rpartition(".")[0]

    def __str__(self) -> str:
        return self.path.relative_to(ROOT).as_posix()


def _read(path: Path) -> Module:
    parts = path.relative_to(ROOT).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    name = ".".join(parts[:-1] if is_package else parts)
    return Module(path, name, is_package, ast.parse(path.read_text(encoding="utf-8")))


MODULES = [_read(path) for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py"))]
CORE = [module for module in MODULES if module.name.split(".")[0] == "mqtt_core"]


def _is_in(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def _source_of(module: Module, node: ast.ImportFrom) -> str:
    """The absolute name of the module that `from ... import` names."""
    if node.level == 0:
        return node.module or ""
    package = module.package.split(".")
    above = package[: len(package) - node.level + 1]
    return ".".join([*above, node.module] if node.module else above)


def _imports(module: Module) -> Iterator[tuple[int, str]]:
    """Every name that the module imports, with its line: `from a import b` names `a` and `a.b`."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = _source_of(module, node)
            yield node.lineno, source
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def _offences(modules: list[Module], *forbidden: str) -> list[str]:
    return [
        f"{module}:{line} imports {name}"
        for module in modules
        for line, name in _imports(module)
        if _is_in(name, *forbidden)
    ]


def test_there_is_something_to_look_at() -> None:
    assert {module.name.split(".")[0] for module in MODULES} == set(LAYERS)


def test_the_core_names_nothing_of_the_outside_world() -> None:
    assert _offences(CORE, *OUTSIDE_WORLD) == []


def test_the_core_names_no_package_but_itself_and_the_compilers_library() -> None:
    def is_allowed(name: str) -> bool:
        top = name.split(".")[0]
        if top in sys.stdlib_module_names or top == "mqtt_core":
            return True
        # `from librt import strings` also names `librt`, which alone does nothing.
        return name == "librt" or _is_in(name, *CORE_LIBRARIES)

    assert [
        f"{module}:{line} imports {name}"
        for module in CORE
        for line, name in _imports(module)
        if not is_allowed(name)
    ] == []


def test_the_core_calls_nothing_that_does_input_or_output() -> None:
    assert [
        f"{module}:{node.lineno} calls {node.func.id}"
        for module in CORE
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in OUTSIDE_CALLS
    ] == []


def test_the_protocol_layer_knows_neither_the_broker_nor_the_client() -> None:
    above = ("mqtt_core.broker", "mqtt_core.client")
    protocol = [module for module in CORE if not _is_in(module.name, *above)]
    assert _offences(protocol, *above) == []


def test_the_broker_does_not_know_the_client() -> None:
    broker = [module for module in CORE if _is_in(module.name, "mqtt_core.broker")]
    assert _offences(broker, "mqtt_core.client") == []


def test_the_client_does_not_know_the_broker() -> None:
    client = [module for module in CORE if _is_in(module.name, "mqtt_core.client")]
    assert _offences(client, "mqtt_core.broker") == []


def test_adapters_do_not_know_the_program() -> None:
    # A `__main__` is itself a program: it may start the one of iotd.
    adapters = [
        module
        for module in MODULES
        if _is_in(module.name, "adapters") and not module.name.endswith(".__main__")
    ]
    assert _offences(adapters, "iotd", "conformance") == []


def test_neither_runtime_knows_the_other() -> None:
    asyncio_side = [m for m in MODULES if m.name.startswith("adapters.asyncio_")]
    gevent_side = [m for m in MODULES if m.name.startswith("adapters.gevent_")]
    foreign_to_asyncio = GEVENT | _runtime_packages("gevent_")
    foreign_to_gevent = ASYNCIO | _runtime_packages("asyncio_")
    assert _offences(asyncio_side, *foreign_to_asyncio) == []
    assert _offences(gevent_side, *foreign_to_gevent) == []


def test_what_runtimes_share_knows_none_of_them() -> None:
    shared = [
        module
        for module in MODULES
        if _is_in(module.name, "adapters")
        and not module.name.startswith(("adapters.asyncio_", "adapters.gevent_"))
    ]
    runtimes = _runtime_packages("asyncio_") | _runtime_packages("gevent_")
    assert _offences(shared, *ASYNCIO, *GEVENT, *runtimes) == []


def _runtime_packages(prefix: str) -> set[str]:
    return {f"adapters.{path.name}" for path in (ROOT / "adapters").glob(f"{prefix}*")}


def test_conformance_knows_the_core_and_the_standard_library() -> None:
    assert [
        f"{module}:{line} imports {name}"
        for module in MODULES
        if _is_in(module.name, "conformance")
        for line, name in _imports(module)
        if not _is_in(name, "mqtt_core", "conformance")
        and name.split(".")[0] not in sys.stdlib_module_names
    ] == []


def test_nothing_that_ships_knows_what_does_not() -> None:
    assert _offences(MODULES, "tests", "benchmarks", "build_backend", "iotd_build") == []


def test_only_the_plugin_knows_pytest() -> None:
    others = [module for module in MODULES if module.name != "iotd.pytest_plugin"]
    assert _offences(others, "pytest", "_pytest") == []


def test_what_ships_for_tests_does_not_know_the_command_line() -> None:
    testing = [m for m in MODULES if _is_in(m.name, "iotd.testing", "iotd.pytest_plugin")]
    assert testing
    assert _offences(testing, "iotd.cli", "iotd.config") == []


def test_a_private_module_is_named_only_within_its_package() -> None:
    def owner(name: str) -> str | None:
        """The package that a private module belongs to; None for a public name."""
        parts = name.split(".")
        if parts[0] not in LAYERS:
            return None
        for index, part in enumerate(parts):
            if part.startswith("_") and not part.startswith("__"):
                return ".".join(parts[:index])
        return None

    def is_trespass(module: Module, name: str) -> bool:
        package = owner(name)
        return package is not None and not _is_in(module.name, package)

    assert [
        f"{module}:{line} imports {name}"
        for module in MODULES
        for line, name in _imports(module)
        if is_trespass(module, name)
    ] == []


def test_no_class_inherits_from_a_class_of_the_core() -> None:
    """An interpreted class cannot inherit from a compiled one: the pure build would hide that."""

    def core_names(module: Module) -> set[str]:
        return {
            alias.asname or alias.name
            for node in ast.walk(module.tree)
            if isinstance(node, ast.ImportFrom) and _is_in(_source_of(module, node), "mqtt_core")
            for alias in node.names
        }

    assert [
        f"{module}:{node.lineno} {node.name} inherits from {base.id} of mqtt_core"
        for module in MODULES
        if module not in CORE
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if isinstance(base, ast.Name) and base.id in core_names(module)
    ] == []


def test_all_of_a_package_is_what_its_init_offers() -> None:
    """`__all__` lists what is re-exported or defined there, no less and no more."""
    differences = {
        str(module): sorted(_listed_names(module) ^ _offered_names(module))
        for module in MODULES
        if module.is_package
    }
    assert {name: names for name, names in differences.items() if names} == {}


def _listed_names(module: Module) -> set[str]:
    for node in module.tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            assert isinstance(node, ast.Assign)
            return {name for name in ast.literal_eval(node.value) if not name.startswith("_")}
    return set()


def _offered_names(module: Module) -> set[str]:
    """Public names that an `__init__` defines, or imports from its own distribution."""
    names = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and _is_in(_source_of(module, node), *LAYERS):
            names |= {alias.asname or alias.name for alias in node.names}
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


def test_adapters_is_a_namespace_of_typed_packages() -> None:
    entries = [path for path in (ROOT / "adapters").iterdir() if path.name != "__pycache__"]
    assert [path.name for path in entries if not path.is_dir()] == []
    for package in entries:
        assert (package / "__init__.py").is_file(), package
        assert (package / "py.typed").is_file(), package


def test_every_other_package_is_typed() -> None:
    for layer in LAYERS:
        if layer != "adapters":
            assert (ROOT / layer / "py.typed").is_file(), layer
            assert (ROOT / layer / "__init__.py").is_file(), layer
