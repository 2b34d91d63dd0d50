"""Which statements a recording may be about, guessed from the kinds of packets in it.

It is a start for the author of a conformance case, who knows which rule the recording shows.
"""

from collections.abc import Sequence

from conformance._readable import MQTT_5, level_of
from conformance._trace_text import CAME, SENT, Occurrence

_BY_ANSWER = {
    4: ("MQTT-4.3.2-2", "MQTT-4.3.2-4"),
    5: ("MQTT-4.3.3-2", "MQTT-4.3.3-8"),
    7: ("MQTT-4.3.3-2", "MQTT-4.3.3-11"),
    9: ("MQTT-3.8.4-1", "MQTT-3.8.4-1"),
    11: ("MQTT-3.10.4-4", "MQTT-3.10.4-4"),
    13: ("MQTT-3.12.4-1", "MQTT-3.12.4-1"),
}
"""Ids in 3.1.1 and in 5.0, by the type of a packet that came from the broker."""
_RETAINED = ("MQTT-3.3.1-6", "MQTT-3.3.1-9")
_WILL = ("MQTT-3.1.2-8", "MQTT-3.1.2-8")
_SESSION_PRESENT = ("MQTT-3.2.2-2", "MQTT-3.2.2-3")


def guess_statements(occurrences: Sequence[Occurrence]) -> str:
    """Ids as a header has them, such as "v3: MQTT-4.3.2-2 MQTT-3.8.4-1"; "" where none is known."""
    is_5 = any(
        one.what == SENT and one.packet[:1] == b"\x10" and level_of(one.packet) == MQTT_5
        for one in occurrences
    )
    pairs = [pair for one in occurrences if (pair := _pair(one)) is not None]
    ids = dict.fromkeys(pair[is_5] for pair in pairs)
    return f"{'v5' if is_5 else 'v3'}: {' '.join(ids)}" if ids else ""


def _pair(one: Occurrence) -> tuple[str, str] | None:
    packet = one.packet
    if not packet:
        return None
    kind = packet[0] >> 4
    if one.what == SENT:
        has_will = kind == 1 and len(packet) > 9 and packet[9] & 0x04
        return _WILL if has_will else None
    if one.what != CAME:
        return None
    if kind == 2 and len(packet) > 2 and packet[2] & 1:
        return _SESSION_PRESENT
    if kind == 3 and packet[0] & 1:
        return _RETAINED
    return _BY_ANSWER.get(kind)
