"""One connection to what is tested, whatever carries its bytes."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from conformance._items import Scope, read_variable_byte_integer
from conformance._readable import level_of

CONNECT, CONNACK, PINGRESP = 0x10, 0x20, 0xD0
_PINGREQ_PACKET = b"\xc0\x00"
_PINGRESP_PACKET = b"\xd0\x00"
_DISCONNECT = 0xE0


class Framer:
    """Cuts a stream into packets. What no length prefix can explain stays in `rest`."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The packets that are complete with `data`."""
        self.rest += data
        packets = []
        while len(self.rest) >= 2:
            read = read_variable_byte_integer(self.rest, 1)
            if read is None or len(self.rest) < read[0] + read[1]:
                break
            end = read[0] + read[1]
            packets.append(self.rest[:end])
            self.rest = self.rest[end:]
        return packets


@dataclass(frozen=True)
class Passed:
    """A packet that went over a connection."""

    link: str
    is_sent: bool
    """From the trace to what is tested."""
    packet: bytes
    level: int
    """The protocol level of the connection then."""


class Link:
    """What the player knows about a connection. Subclasses carry the bytes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.passed: deque[Passed] = deque(maxlen=0)
        """Where packets of both directions are noted; the player has one for all connections."""
        self.packets: deque[bytes] = deque()
        self.is_closed = False
        """The other side has ended it: nothing more comes."""
        self.level = 4
        """The protocol level of the CONNECT that was sent here."""
        self.was_accepted = False
        """A CONNACK 0 has come."""
        self.is_accepted = False
        """A CONNACK 0 has come and no DISCONNECT was sent."""
        self.is_paused = False
        self.pings_unanswered = 0
        self._received = Framer()
        self._sent = Framer()

    @property
    def garbage(self) -> bytes:
        """Bytes received that are not a whole packet."""
        return self._received.rest

    @property
    def can_ping(self) -> bool:
        """A PINGREQ may be sent now: accepted, and between two packets."""
        is_usable = self.is_accepted and not self.is_paused and not self.is_closed
        return is_usable and not self._sent.rest

    def note_sent(self, data: bytes) -> None:
        """Follow what the trace sends."""
        for packet in self._sent.feed(data):
            self._note_connect(packet)
            self.passed.append(Passed(self.name, True, packet, self.level))
            self.pings_unanswered += packet == _PINGREQ_PACKET
            if packet[0] & 0xF0 == _DISCONNECT:
                self.is_accepted = False

    def note_received(self, data: bytes) -> None:
        """Cut what came into packets."""
        for packet in self._received.feed(data):
            self.packets.append(packet)
            self._note_connect(packet)
            self.passed.append(Passed(self.name, False, packet, self.level))
            if packet == _PINGRESP_PACKET and self.pings_unanswered:  # else the ping was odd
                self.pings_unanswered -= 1
            if packet[0] == CONNACK:
                read = read_variable_byte_integer(packet, 1)
                self.is_accepted = read is not None and packet[read[1] + 1 :][:1] == b"\0"
                self.was_accepted |= self.is_accepted

    def _note_connect(self, packet: bytes) -> None:
        if packet[0] == CONNECT:
            self.level = level_of(packet)

    def take_last_pingresp(self) -> None:
        """Drop the PINGRESP that answered a ping of the runner itself."""
        for index in range(len(self.packets) - 1, -1, -1):
            if self.packets[index] == _PINGRESP_PACKET:
                del self.packets[index]
                return

    def send(self, data: bytes) -> None:
        """Send bytes; those that the other side no longer takes are dropped."""
        raise NotImplementedError

    def cut(self) -> None:
        """Close the connection as a program does that ends."""
        raise NotImplementedError

    def reset(self) -> None:
        """Break the connection: the other side sees an error."""
        raise NotImplementedError

    def half_close(self) -> None:
        """Say that nothing more is sent, and go on receiving."""
        raise NotImplementedError

    def pause(self, is_paused: bool) -> None:
        """Stop taking bytes in, or go on."""
        raise NotImplementedError


class ClientSide(Protocol):
    """The interface of a client under test, for scenarios with `role: client`."""

    def call(self, verb: str, arguments: Iterable[tuple[str, bytes]]) -> bool:
        """Make the call. False when the client refuses it because MQTT forbids it."""

    def next_event(self) -> object | None:
        """The next thing the client told its user."""


class Peer(Protocol):
    """What is tested, and the clock it lives by."""

    title: str
    is_ours: bool
    """Of alternatives only the first, iotd's own choice, is accepted."""
    client: ClientSide | None

    def why_not(self, role: str, needs: Iterable[str], settings: dict[str, str]) -> str:
        """Why a scenario cannot be played here, or "" if it can."""

    def connect(self, name: str) -> Link:
        """Open a connection."""

    def wait_until(self, condition: Callable[[], bool], patience_s: float) -> bool:
        """Let things happen until `condition` holds; False when it still does not."""

    def let_the_end_arrive(self) -> None:
        """Let the other side see that a connection was cut, before anything else happens."""

    def settle(self, links: Iterable[Link], is_timed: bool) -> None:
        """Let everything that is under way arrive."""

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""

    def finish(self, scope: Scope) -> str:
        """End what is left over. A text says what is wrong with how the other side ended."""
