"""Delivery state of one session: packet identifiers and handshakes, both ways (2.3.1, 4.3).

It belongs to the session, not to the connection, and goes over to the next connection of the
same session, which sends again what is not finished, in its original order (4.4).

Outgoing state is kept in lists indexed by packet identifier, which double when half full: no
hashing and no object for each delivery. A mark holds the step of the handshake and the order
in which it began.
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._message import Message

FREE: Final = 0
AWAITING_PUBACK: Final = 1
AWAITING_PUBREC: Final = 2
AWAITING_PUBCOMP: Final = 3
AWAITING_SUBACK: Final = 4
AWAITING_UNSUBACK: Final = 5
STORING_PUBLISH: Final = 6  # a server's QoS 2 PUBLISH waits until its identifier is stored
STORING_PUBREL: Final = 7  # a server's PUBREL waits until the PUBREC is stored

FLOOR_BYTES: Final = 65_536
"""What a session may have in flight, or waiting, even when others have used up the total."""

_STEP: Final = 7
_SMALLEST: Final = 8
_LARGEST: Final = 65_536


@final
class ByteCount:
    """Bytes of the messages of many sessions together, and their limit."""

    __slots__ = ("count", "limit")

    def __init__(self, limit: int) -> None:
        self.count = 0
        self.limit: Final = limit


@final
class Flow:
    """Identifiers in use and the step that each has reached.

    At most `window` messages, and about `window_bytes`, are unacknowledged at a time.
    """

    __slots__ = (
        "window",
        "window_bytes",
        "in_flight",
        "in_flight_bytes",
        "held",
        "_total",
        "_used",
        "_messages",
        "_marks",
        "_cursor",
        "_order",
    )

    def __init__(
        self,
        window: int = 65_535,
        window_bytes: int = 1 << 40,
        total: ByteCount | None = None,
    ) -> None:
        self.window = window
        self.window_bytes: Final = window_bytes
        self.in_flight = 0  # PUBLISH packets begun and not finished
        self.in_flight_bytes = 0  # of the messages that may have to be sent again
        self._total: Final = total
        self.held: set[int] | None = None  # received at QoS 2 and not released
        self._used = 0
        self._messages: list[Message | None] = []
        self._marks: list[int] = []
        self._cursor = 0
        self._order = 0

    # Outgoing

    @property
    def has_room(self) -> bool:
        """Whether one more QoS 1 or 2 PUBLISH may be begun."""
        return self.room(0) > 0

    def room(self, reserved: int) -> int:
        """How many more may be begun while `reserved` places are kept for others."""
        total = self._total
        if self.in_flight_bytes >= self.window_bytes:
            return 0
        if total is not None and total.count >= total.limit:
            if self.in_flight_bytes >= FLOOR_BYTES:
                return 0
        return self.window - self.in_flight - reserved

    def _count(self, size_bytes: int) -> None:
        self.in_flight_bytes += size_bytes
        total = self._total
        if total is not None:
            total.count += size_bytes

    @property
    def is_empty(self) -> bool:
        """Whether no handshake is open in either direction."""
        return self._used == 0 and not self.held

    def start(self, message: Message | None, step: int) -> int:
        """Begin a handshake and return its packet identifier, one that is not in use.

        [v3 MQTT-2.3.1-2] [v3 MQTT-2.3.1-4] [MQTT-2.2.1-3] [MQTT-2.2.1-4]
        """
        marks = self._marks
        capacity = len(marks)
        if self._used * 2 >= capacity and capacity < _LARGEST:
            self._grow()
            capacity = len(marks)
        at = self._cursor + 1
        while True:  # ends: at most 65,535 are used, which the window and callers see to
            if at >= capacity:
                at = 1  # never 0  [v3 MQTT-2.3.1-1] [MQTT-2.2.1-3]
            if marks[at] == FREE:
                break
            at += 1
        self._cursor = at
        self._order += 1
        marks[at] = (self._order << 3) | step
        self._messages[at] = message
        self._used += 1
        if message is not None:
            self._count(message.size_bytes)
        if step != AWAITING_SUBACK and step != AWAITING_UNSUBACK:
            self.in_flight += 1
        return at

    @property
    def has_identifier(self) -> bool:
        """Whether any packet identifier is free."""
        return self._used < _LARGEST - 1

    def _grow(self) -> None:
        more = len(self._marks) or _SMALLEST
        self._marks.extend([FREE] * more)
        self._messages.extend([None] * more)

    def restore(self, packet_id: int, message: Message | None, step: int) -> None:
        """Put back a handshake of a stored session; called in their original order."""
        while packet_id >= len(self._marks):
            self._grow()
        self._order += 1
        self._marks[packet_id] = (self._order << 3) | step
        self._messages[packet_id] = message
        self._used += 1
        self.in_flight += 1
        if message is not None:
            self._count(message.size_bytes)

    def step(self, packet_id: int) -> int:
        """The step that an identifier has reached; `FREE` for one that is not in use."""
        marks = self._marks
        return marks[packet_id] & _STEP if packet_id < len(marks) else FREE

    def message(self, packet_id: int) -> Message | None:
        """The message of a handshake, until its receiver has taken it over."""
        return self._messages[packet_id]

    def advance(self, packet_id: int, step: int) -> None:
        """Go on to `step`; its message is forgotten once PUBREC has come.

        The order becomes that of the step: PUBRELs are repeated in the order of the PUBRECs.
        [v3 MQTT-4.6.0-4] [MQTT-4.6.0-4]
        """
        if step in (AWAITING_PUBCOMP, STORING_PUBREL):
            message = self._messages[packet_id]
            if message is not None:
                self._count(-message.size_bytes)
                self._order += 1
                self._messages[packet_id] = None
                self._marks[packet_id] = (self._order << 3) | step
                return
        self._marks[packet_id] = (self._marks[packet_id] & ~_STEP) | step

    def finish(self, packet_id: int) -> None:
        """End a handshake; its identifier is free again.  [v3 MQTT-2.3.1-3]"""
        step = self._marks[packet_id] & _STEP
        message = self._messages[packet_id]
        if message is not None:
            self._count(-message.size_bytes)
            self._messages[packet_id] = None
        self._marks[packet_id] = FREE
        self._used -= 1
        if step != AWAITING_SUBACK and step != AWAITING_UNSUBACK:
            self.in_flight -= 1

    @property
    def order(self) -> int:
        """A mark in time: handshakes that begin from now on have a greater one."""
        return self._order

    def unfinished(self, until: int | None = None) -> list[int]:
        """Identifiers in use, in the order in which their present packets were first sent.

        With `until`, a former `order`, only those that had begun by then. [v3 MQTT-4.6.0-1]
        [MQTT-4.6.0-1]
        """
        last = self._order if until is None else until
        marks = self._marks
        found = [
            (marks[at], at) for at in range(1, len(marks)) if marks[at] and marks[at] >> 3 <= last
        ]
        found.sort()
        return [at for _, at in found]

    # Incoming

    @property
    def held_count(self) -> int:
        """How many QoS 2 messages have been received and not released."""
        held = self.held
        return 0 if held is None else len(held)

    def hold(self, packet_id: int) -> bool:
        """Note a QoS 2 PUBLISH; False for one that is held already.

        [v3 MQTT-4.3.3-2] [MQTT-4.3.3-10]
        """
        held = self.held
        if held is None:
            self.held = {packet_id}
            return True
        if packet_id in held:
            return False
        held.add(packet_id)
        return True

    def release(self, packet_id: int) -> bool:
        """Note a PUBREL; False for an identifier that was not held.  [MQTT-4.3.3-12]"""
        held = self.held
        if held is None or packet_id not in held:
            return False
        held.remove(packet_id)
        if not held:
            self.held = None
        return True

    def reset(self, until: int | None = None) -> list[Message]:
        """Forget everything, or what had begun by `until`, a former `order`.

        Returns the messages that were not taken over, in order.
        """
        forgotten: list[Message] = []
        for packet_id in self.unfinished(until):
            message = self._messages[packet_id]
            if message is not None:
                forgotten.append(message)
            self.finish(packet_id)
        self.held = None
        if not self._used:
            self._messages = []
            self._marks = []
            self._cursor = 0
        return forgotten
