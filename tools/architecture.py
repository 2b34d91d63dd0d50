"""Writes the generated parts of docs/architecture.md: contracts and the list of modules.

`python -m tools.architecture` writes them, `--check` only says whether they are up to date. All of
it is read from the source: signatures, and the first sentence of each docstring.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Final

from tools._page import ROOT, finish, table, with_parts

PAGE: Final = ROOT / "docs" / "architecture.md"
COMMAND: Final = "python -m tools.architecture"

Function = ast.FunctionDef | ast.AsyncFunctionDef

BROKER: Final = "mqtt_core/broker/_broker.py"
CHANNEL: Final = "mqtt_core/broker/_channel.py"
INSIDE: Final = "mqtt_core/broker/_inside.py"
CONNECTION: Final = "mqtt_core/_connection.py"
WRITING: Final = "mqtt_core/_writing.py"
STORE: Final = "mqtt_core/_store.py"

# Calls of the contract: file, class, methods and properties, in the order of their use.
INTO_THE_BROKER: Final = (
    (BROKER, "Broker", ("__init__", "recover", "open")),
    (CHANNEL, "Channel", ("receive_data", "set_writable", "eof")),
    (BROKER, "Broker", ("attach",)),
    (INSIDE, "Inside", ("publish", "subscribe", "disconnect")),
    (BROKER, "Broker", ("advance", "auth_decided", "completed", "rules_changed", "shut_down")),
)
OUT_OF_THE_BROKER: Final = (
    (BROKER, "Broker", ("has_dirty", "must_flush", "take_dirty")),
    (CHANNEL, "Channel", ("data_to_send",)),
    (INSIDE, "Inside", ("has_room", "receive", "take_messages", "take_outcomes", "has_ended")),
    (BROKER, "Broker", ("has_requests", "take_requests", "has_facts", "take_facts")),
    (BROKER, "Broker", ("next_deadline", "is_recovering", "recovery_failure", "is_stopped")),
)
OF_A_CONNECTION: Final = (
    (CONNECTION, "Connection", ("__init__", "receive_data", "events")),
    (WRITING, "Writing", ("send_connect", "send_publish", "send_subscribe")),
    (WRITING, "Writing", ("send_unsubscribe", "send_pingreq", "send_disconnect")),
    (WRITING, "Writing", ("send_puback", "send_pubrec", "send_pubcomp", "send_auth")),
    (CONNECTION, "Connection", ("data_to_send", "wants_read", "wants_close")),
    (CONNECTION, "Connection", ("next_deadline", "advance", "eof")),
)
# A class that is a part of another, under whose name its calls are known.
PART_OF: Final = {"Writing": "Connection"}

PACKAGES: Final = (
    "mqtt_core",
    "mqtt_core/broker",
    "mqtt_core/client",
    "adapters/transport",
    "adapters/asyncio_server",
    "adapters/gevent_server",
    "adapters/storage",
    "adapters/security",
    "adapters/operations",
    "adapters/bench",
    "adapters/stages",
    "adapters/client_common",
    "adapters/asyncio_client",
    "adapters/blocking_client",
)


def whole(docstring: str | None) -> str:
    """A docstring on one line, without the numbers of the statements that it obeys."""
    return " ".join(re.sub(r"\[[^\]]*MQTT-[^\]]*\]", "", docstring or "").split())


def first_sentence(docstring: str | None) -> str:
    """The first sentence of a docstring, on one line."""
    return re.split(r"(?<=[.!?]) +(?=[A-Z`])", whole((docstring or "").partition("\n\n")[0]))[0]


def _tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def _class(tree: ast.Module, name: str) -> ast.ClassDef:
    return next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)


# Contracts


def contract(calls: Sequence[tuple[str, str, Sequence[str]]]) -> str:
    """Calls of the core with what they mean."""
    rows = []
    for path, class_name, names in calls:
        owner = _class(_tree(path), class_name)
        methods = {node.name: node for node in owner.body if isinstance(node, Function)}
        for name in names:
            method = methods[name]
            meant = ast.get_docstring(owner if name == "__init__" else method)
            shown_as = PART_OF.get(class_name, class_name)
            rows.append([f"`{_call(shown_as, method)}`", whole(meant)])
    return table(["call", "meaning"], rows)


def _call(class_name: str, method: Function) -> str:
    """How the method is called and what it gives: `channel.eof(cause, now)`."""
    receiver = class_name.lower()
    result = "" if method.returns is None else ast.unparse(method.returns)
    gives = "" if result in ("", "None") else f" -> {result}"
    if any(ast.unparse(decorator) == "property" for decorator in method.decorator_list):
        return f"{receiver}.{method.name}{gives}"
    arguments = ", ".join(_parameters(method.args))
    if method.name == "__init__":
        return f"{class_name}({arguments})"
    return f"{receiver}.{method.name}({arguments}){gives}"


def _parameters(arguments: ast.arguments) -> Iterator[str]:
    """Names, without `self`; an optional one with its default."""
    names = arguments.args[1:]
    defaults = [None] * (len(names) - len(arguments.defaults)) + list(arguments.defaults)
    for parameter, default in zip(names, defaults, strict=True):
        yield _parameter(parameter, default)
    if arguments.kwonlyargs:
        yield "*"
    for parameter, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _parameter(parameter, default)


def _parameter(parameter: ast.arg, default: ast.expr | None) -> str:
    return parameter.arg if default is None else f"{parameter.arg}={ast.unparse(default)}"


# Storage


def storage() -> str:
    """Requests, operations and completions."""
    rows: dict[str, list[ast.ClassDef]] = {"Request": [], "Operation": [], "Completion": []}
    for node in _tree(STORE).body:
        if isinstance(node, ast.ClassDef) and node.bases:
            base = ast.unparse(node.bases[0])
            if base in rows:
                rows[base].append(node)
    return table(
        ["", "name", "meaning"],
        [
            [base.lower(), f"`{_constructor(node)}`", whole(ast.get_docstring(node))]
            for base, nodes in rows.items()
            for node in nodes
        ],
    )


def _constructor(node: ast.ClassDef) -> str:
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and method.name == "__init__":
            return f"{node.name}({', '.join(_parameters(method.args))})"
    return node.name


# Modules


def modules() -> str:
    """Every module of the core and the adapters with what it is about."""
    rows = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).glob("*.py")):
            if path.name != "__main__.py":
                name = path.relative_to(ROOT).as_posix()
                rows.append(
                    [f"[`{name}`](../{name})", first_sentence(ast.get_docstring(_tree(name)))]
                )
    return table(["module", "about"], rows)


def page(text: str) -> str:
    """The page with its generated parts made anew."""
    return with_parts(
        text,
        {
            "modules": modules(),
            "into-the-broker": contract(INTO_THE_BROKER),
            "out-of-the-broker": contract(OUT_OF_THE_BROKER),
            "of-a-connection": contract(OF_A_CONNECTION),
            "storage": storage(),
        },
    )


def main(arguments: Sequence[str]) -> int:
    """Write the parts, or with `--check` say whether they are stale. Returns the exit code."""
    return finish(PAGE, page(PAGE.read_text(encoding="utf-8")), arguments, COMMAND)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
