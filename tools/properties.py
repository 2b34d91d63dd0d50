"""Writes docs/properties.md: the properties and the reason codes of MQTT 5.0, packet by packet.

`python -m tools.properties` writes the page, `--check` only says whether it is up to date. All of
it is read from the tables that the decoder and the encoder obey.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from mqtt_core import reason_name
from mqtt_core._codes import PACKET_NAMES
from mqtt_core._properties import PROPERTIES, VALUE_KIND_NAMES, WILL, PropertyRule
from mqtt_core._reasons import BY_BOTH, BY_CLIENT, BY_SERVER, REASONS
from tools._page import ROOT, finish, table

PAGE: Final = ROOT / "docs" / "properties.md"
COMMAND: Final = "python -m tools.properties"
SENDERS: Final = {BY_BOTH: "both", BY_CLIENT: "client", BY_SERVER: "server"}

_TEXT: Final = """\
<!-- Made by `{command}` from the code; changes go there. -->

# Properties and reason codes

Tables of MQTT 5.0, as data in `mqtt_core/_properties.py` and `mqtt_core/_reasons.py`. What they do
not allow is refused, in both directions: `RemoteProtocolError` for what a peer sends,
`LocalProtocolError` for what a program asks for.

## Properties

A packet carries its properties as pairs of identifier and value, in the order of the packet:
`((0x11, 60), (0x26, ("key", "value")))`. `mqtt_core.properties` has the names of the identifiers
and looks values up. *Repeats* are the packets where a property may stand more than once.

{properties}
A number is a Python `int`, a string a `str`, binary data `bytes`, a string pair a tuple of two
`str`. By default a packet may have 100 user properties and 65,536 bytes of properties; more is
refused with reason 0x97.

## Reason codes

Who may send which code in which packet. `mqtt_core.reasons` has their names. Codes from 0x80 on say
that something has failed.

{reasons}"""


def _place(kind: int) -> str:
    return "will" if kind == WILL else PACKET_NAMES[kind]


def _places(rule: PropertyRule, kinds: Sequence[int]) -> str:
    names = [_place(kind) for kind in kinds]
    return "everywhere" if len(names) > 13 else ", ".join(names)


def properties() -> str:
    """The properties, with their types and places."""
    rows = []
    for rule in PROPERTIES:
        bounds = f", {rule.least:,} to {rule.most:,}" if rule.least or 0 < rule.most < 0xFF else ""
        rows.append(
            [
                f"0x{rule.identifier:02X}",
                rule.name,
                VALUE_KIND_NAMES[rule.kind] + bounds,
                _places(rule, list(rule.places)),
                _places(rule, rule.repeats),
            ]
        )
    return table(["identifier", "name", "value", "packets", "repeats"], rows)


def reasons() -> str:
    """The reason codes, with who may send each in which packet."""
    codes = sorted({code for by_code in REASONS.values() for code in by_code})
    rows = [
        [
            f"0x{code:02X}",
            reason_name(code),
            *(SENDERS.get(by_code.get(code, 0), "") for by_code in REASONS.values()),
        ]
        for code in codes
    ]
    return table(["code", "name", *(PACKET_NAMES[kind] for kind in REASONS)], rows)


def page() -> str:
    """The page, as Markdown."""
    return _TEXT.format(command=COMMAND, properties=properties(), reasons=reasons())


def main(arguments: Sequence[str]) -> int:
    """Write the page, or with `--check` say whether it is stale. Returns the exit code."""
    return finish(PAGE, page(), arguments, COMMAND)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
