"""Properties of MQTT 5.0 packets: the place that every packet keeps for them.

MQTT 3.1.1 has none, so that a connection of that version only ever carries `NO_PROPERTIES`.
"""

from __future__ import annotations

from typing import Final

PropertyValue = int | bytes | str | tuple[str, str]
"""Four value kinds: number, binary data, string and string pair (1.5 of MQTT 5.0)."""

Properties = tuple[tuple[int, PropertyValue], ...]
"""Pairs of property identifier and value, in the order of the packet."""

NO_PROPERTIES: Final[Properties] = ()
