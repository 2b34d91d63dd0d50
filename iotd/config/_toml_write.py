"""Writing values as TOML."""

from __future__ import annotations

import json

import msgspec

from iotd.config._keys import Value
from iotd.config._records import HIDDEN, Rule, User


def toml_text(text: str) -> str:
    """A TOML basic string: JSON's escapes, and U+007F, which TOML does not take as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_value(value: Value) -> str:
    """`value` on one line. Passwords and their hashes are left out."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return toml_text(value)
    return f"[{', '.join(_item(item) for item in value)}]"


def _item(item: str | User | Rule) -> str:
    if isinstance(item, str):
        return toml_text(item)
    fields = public_fields(item)
    return (
        "{ " + ", ".join(f"{name} = {toml_value(value)}" for name, value in fields.items()) + " }"
    )


def public_fields(record: User | Rule) -> dict[str, str | bool]:
    """The fields of a record that may be shown."""
    return {
        name: value for name, value in msgspec.structs.asdict(record).items() if name not in HIDDEN
    }
