"""The effective configuration for people (a table), for programs (JSON) and as a file (TOML)."""

from __future__ import annotations

import json
from typing import Final, TextIO, cast

from iotd.config._keys import KEYS, SECTIONS, Key, Value
from iotd.config._memory import COSTS
from iotd.config._records import Rule, User
from iotd.config._settings import Settings
from iotd.config._toml_write import public_fields, toml_value

FORMATS: Final = ("table", "toml", "json")
_SHOWN_ITEMS: Final = 5
_HIDDEN: Final = "(set, not shown)"


def show(settings: Settings, format: str, stream: TextIO) -> None:
    """Write `settings` to `stream` in one of `FORMATS`."""
    if format == "json":
        stream.write(as_json(settings) + "\n")
    elif format == "toml":
        stream.write(as_toml(settings))
    else:
        _table(settings, stream)


def as_json(settings: Settings) -> str:
    """One object: `settings` by section and key, `worst_case_memory_bytes` by part, `warnings`."""
    sections: dict[str, dict[str, object]] = {section: {} for section in SECTIONS}
    for path, key in KEYS.items():
        sections[key.section][key.name] = {
            "value": _plain(key, settings.values[path]),
            "from": str(settings.origins[path]),
        }
    parts = settings.worst_case()
    memory: dict[str, object] = {
        part.name: {"bytes": size, "formula": part.formula} for part, size in parts
    }
    document = {
        "settings": sections,
        "worst_case_memory": {"parts": memory, "total_bytes": sum(size for _, size in parts)},
        "warnings": settings.warnings,
    }
    return json.dumps(document, indent=2)


def as_toml(settings: Settings) -> str:
    """A file that gives the same configuration; only passwords and secrets are to be filled in."""
    lines: list[str] = []
    for section in SECTIONS:
        lines += ["", f"[{section}]"] if lines else [f"[{section}]"]
        for path, key in KEYS.items():
            if key.section == section:
                text = f"{key.name} = {toml_value(settings.values[path])}"
                if _is_hidden(key, settings.values[path]):
                    text = f"# {key.name} = {_HIDDEN}"
                lines.append(f"{text}  # {settings.origins[path]}")
    lines += ["", "# Worst case of memory under these limits, in bytes:"]
    lines += [f"#   {part.name}: {size:,}" for part, size in settings.worst_case()]
    return "\n".join(lines) + "\n"


def _is_hidden(key: Key, value: Value) -> bool:
    return key.is_secret and bool(value)


def _plain(key: Key, value: Value) -> object:
    if _is_hidden(key, value):
        return _HIDDEN
    if isinstance(value, tuple):
        return [public_fields(item) if isinstance(item, (User, Rule)) else item for item in value]
    return value


def _table(settings: Settings, stream: TextIO) -> None:
    from rich import box  # slow to load, and wanted only here
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=stream, highlight=False)
    if not console.is_terminal:
        console.width = 10_000  # a file or a pipe has no edge to fold at
    table = Table("key", "value", "from", box=box.SIMPLE_HEAD, pad_edge=False)
    for section in SECTIONS:
        table.add_section()
        for path, key in KEYS.items():
            if key.section == section:
                origin = settings.origins[path]
                style = "dim" if origin.layer == "default" else "bold"
                value = _brief(key, settings.values[path])
                table.add_row(Text(path), Text(value), Text(str(origin)), style=style)
    console.print(table)
    memory = Table("worst case of memory", box=box.SIMPLE_HEAD, pad_edge=False)
    memory.add_column("MiB", justify="right")
    memory.add_column("formula")
    parts = settings.worst_case()
    for part, size in parts:
        memory.add_row(part.name, _mib(size), Text(part.formula))
    memory.add_section()
    memory.add_row("total", _mib(sum(size for _, size in parts)), "every limit used up at once")
    console.print(memory)
    costs = ", ".join(f"{name} {size:,}" for name, (size, _) in COSTS.items())
    console.print(Text(f"Names in capitals, in bytes: {costs}."))


def _brief(key: Key, value: Value) -> str:
    """The value, a long list without its tail."""
    if _is_hidden(key, value):
        return _HIDDEN
    if isinstance(value, tuple) and len(value) > _SHOWN_ITEMS:
        first = cast(Value, value[:_SHOWN_ITEMS])
        return f"{toml_value(first)[:-1]}, ... ({len(value)} in all)]"
    return toml_value(value)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):,.1f}"
