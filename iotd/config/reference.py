"""The reference page and the example file, made from the keys.

`python -m iotd.config.reference` writes both; with `--check` it writes nothing and fails if one of
them is not what the code says.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Final

import msgspec

from iotd.config._check import allowed_by
from iotd.config._keys import KEYS, SECTIONS, Key
from iotd.config._memory import COSTS, PARTS
from iotd.config._records import Rule, User
from iotd.config._toml_write import toml_value

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = Path("docs/configuration.md")
EXAMPLE: Final = Path("iotd.example.toml")

_INTRODUCTION: Final = """\
<!-- Made by `python -m iotd.config.reference` from the code; changes go there. -->

# Configuration

`iotd serve --config FILE` reads a TOML file. Every key has a default, so an empty file and no file
are the same. A value comes from the first of these that has it:

1. a flag of the command line, where there is one,
2. an environment variable: `IOTD_`, the section, the key, all in capitals,
3. the file,
4. the default.

In the environment, lists are separated by commas or written as JSON, and lists of tables are JSON:

```sh
IOTD_SERVER_LISTEN_ADDRESSES=tcp://127.0.0.1:1883,tcp://[::1]:1883
IOTD_AUTH_USERS='[{"name": "sensor", "password_hash": "$scrypt$..."}]'
```

`IOTD_CONFIG` names the file itself. Units are in the names: `_secs` are seconds, `_bytes` bytes.

`iotd config` prints what is in effect, where each value came from and the most memory that these
limits allow. `iotd config --check FILE` tells every error at once and exits with 2, or prints `ok`.

Codes in the descriptions, such as CONNACK 0x03, are those of MQTT 3.1.1. What a client of MQTT 5.0
is told instead stands beside them in [mqtt5.md](mqtt5.md#limits-and-how-they-are-told).
"""

_USERS: Final = """\
### `[[auth.users]]`

{fields}

Make a hash with `iotd hash-password`: it asks for the password and prints the line for the file.
The hash is scrypt, with a cost of 16 MiB and tens of milliseconds for whoever tries passwords out.
It is checked on a thread of its own, never by what serves the other clients; a password that has
been right once is remembered as a keyed digest in memory, so that a fleet reconnects quickly.

A client of MQTT 5.0 need not send its password: with the authentication method `SCRAM-SHA-256`
(RFC 7677) it proves that it knows it, and the broker proves that it has its hash. For that the hash
is made by `iotd hash-password --scram`; it reads `SCRAM-SHA-256$...` and serves clients that send
the password as well. It is PBKDF2 of 100,000 iterations, which need time and no memory, so that
scrypt is better where nobody uses SCRAM. The client has to do that work at each login: for a small
one make the hash with `--iterations 4096`. A user with a scrypt hash cannot log in by SCRAM, one
with a `password` can. Names and passwords are compared in the form that SASLprep (RFC 4013) gives
them. Whoever logs in by SCRAM is known to the rules by the name in this list, and a CONNECT that
has another user name beside it is refused. A name of more than 256 characters cannot log in so.

Without users and rules everybody may connect, and a user name that a client sends is not checked
and means nothing. With either, a user name that is not in the list is refused.
"""

_RULES: Final = """\
### `[[auth.rules]]`

{fields}

Rules are read from the first to the last, for every PUBLISH, every filter of a SUBSCRIBE and the
topic of every will. A filter with wildcards is allowed by a rule if all that it matches is, and
denied if anything is.

```toml
[[auth.rules]]           # every user writes below its own name
action = "publish"
topic = "site/%u/#"

[[auth.rules]]           # and only the dashboard reads
user = "dashboard"
action = "subscribe"
topic = "site/#"
```
"""

_MEMORY: Final = """\
## Worst case of memory

What `iotd config` prints is computed from these formulas. They assume that every limit is used up
at once, which no ordinary load comes near; lower the limits to fit the machine. Socket buffers of
the operating system come on top.

| part | most bytes |
| --- | --- |
{parts}

`has_rules` is 1 if there are rules, else 0. The names in capitals are what one thing takes,
measured and rounded up:

| name | bytes | |
| --- | --- | --- |
{costs}
"""


def page() -> str:
    """The reference page, as Markdown."""
    parts = [_INTRODUCTION]
    for section, purpose in SECTIONS.items():
        parts.append(f"## `[{section}]`\n\n{purpose}\n")
        parts += [_entry(key) for key in KEYS.values() if key.section == section]
        if section == "auth":
            parts.append(_USERS.format(fields=_fields(User)))
            parts.append(_RULES.format(fields=_fields(Rule)))
    formulas = "\n".join(f"| {part.name} | `{part.formula}` |" for part in PARTS)
    costs = "\n".join(f"| `{name}` | {size:,} | {what} |" for name, (size, what) in COSTS.items())
    parts.append(_MEMORY.format(parts=formulas, costs=costs))
    return "\n".join(parts)


def _entry(key: Key) -> str:
    lines = [f"### `{key.name}`", "", key.description, ""]
    lines.append(f"- default: {key.default_text or f'`{toml_value(key.default)}`'}")
    lines.append(f"- allowed: {_quoted(key.allowed)}")
    lines.append(f"- environment: `{key.variable}`")
    if key.flags:
        lines.append("- flag: " + ", ".join(f"`{flag}`" for flag in key.flags))
    if key.aliases:
        lines.append("- also accepted as: " + ", ".join(f"`{alias}`" for alias in key.aliases))
    return "\n".join(lines) + "\n"


def _quoted(allowed: str) -> str:
    """Values in code style: `"a"` in a sentence becomes a literal."""
    return "".join(
        f'`"{piece}"`' if index % 2 else piece for index, piece in enumerate(allowed.split('"'))
    )


def _fields(record: type[User] | type[Rule]) -> str:
    lines = ["| key | allowed | default | |", "| --- | --- | --- | --- |"]
    for field in msgspec.structs.fields(record):
        default = "required" if field.required else f"`{toml_value(field.default)}`"
        allowed = _quoted(allowed_by(field.type))
        lines.append(f"| `{field.name}` | {allowed} | {default} | {_description(field.type)} |")
    return "\n".join(lines)


def _description(hint: object) -> str:
    for note in getattr(hint, "__metadata__", ()):
        if isinstance(note, msgspec.Meta) and note.description:
            return note.description
    return ""


def example() -> str:
    """A configuration file with every key at its default, as comments."""
    lines = [
        "# Example configuration of iotd: every key with its default.",
        "# Take the # from a line to change it. All of it is explained in docs/configuration.md.",
    ]
    for section, purpose in SECTIONS.items():
        lines += ["", f"[{section}]", *_comment(purpose)]
        # Tables last: a key that follows a table in the file would belong to it.
        for key in sorted(KEYS.values(), key=lambda key: key.record is not None):
            if key.section == section:
                lines += ["", *_comment(key.description)]
                lines += [f"#{line}" for line in _sample(key)]
    return "\n".join(lines) + "\n"


def _sample(key: Key) -> list[str]:
    if key.record is User:
        hashed = 'password_hash = "$scrypt$..."'
        return [f"[[{key.path}]]", 'name = "sensor"', f"{hashed}  # iotd hash-password"]
    if key.record is Rule:
        return [f"[[{key.path}]]", 'user = "sensor"', 'action = "publish"', 'topic = "site/%u/#"']
    return [f"{key.name} = {toml_value(key.default)}"]


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in wrap(text.replace("`", ""), 96)]


def main(arguments: Sequence[str]) -> int:
    """Write both files, or with `--check` say which is stale. Returns the exit code."""
    stale = 0
    for path, text in ((PAGE, page()), (EXAMPLE, example())):
        target = ROOT / path
        if "--check" not in arguments:
            target.write_text(text, encoding="utf-8")
        elif not target.is_file() or target.read_text(encoding="utf-8") != text:
            print(f"{path} is stale; run: python -m iotd.config.reference", file=sys.stderr)
            stale = 1
    return stale


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
