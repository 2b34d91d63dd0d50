"""Our client role, `mqtt_core.Connection(CLIENT)`, in memory on a fake clock.

What a trace sends are a server's bytes; what it expects are those that the client produces.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from conformance._items import Scope
from conformance._link import ClientSide, Link
from conformance._player import Result, play
from conformance._properties import BINARY, BY_IDENTIFIER, PAIR, STRING, number, split_properties
from conformance._scenario import Scenario
from mqtt_core import (
    CLIENT,
    MQTT_3_1_1,
    NO_PROPERTIES,
    Auth,
    Connect,
    Connection,
    Flow,
    LocalProtocolError,
    Packet,
    Properties,
    PropertyValue,
    RemoteProtocolError,
    Subscription,
    Will,
)

Arguments = Iterable[tuple[str, bytes]]


class ClientLink(Link):
    """One connection of the client. Delivery state goes over to the next one."""

    def __init__(self, peer: "ClientPeer", flow: Flow | None) -> None:
        super().__init__("")
        self.peer = peer
        self.connection = Connection(
            CLIENT, flow=flow, now=peer.now, manual_acks=peer.acknowledges_by_hand
        )
        self.fault: RemoteProtocolError | None = None

    def send(self, data: bytes) -> None:
        self.peer.told.clear()
        for piece in self.peer.fragment(data):
            try:
                self.connection.receive_data(piece, self.peer.now)
            except RemoteProtocolError as fault:
                self.fault = fault
            self.collect()

    def collect(self) -> None:
        """Take what the client has produced."""
        self.peer.told.extend(self.connection.events())
        while data := self.connection.data_to_send():
            self.note_received(data)
        self.is_closed = self.connection.wants_close

    def cut(self) -> None:
        self.connection.eof(self.peer.now)
        self.peer.told.extend(self.connection.events())
        self.peer.flow = self.connection.flow
        self.peer.link = None

    def reset(self) -> None:
        self.cut()


class ClientPeer:
    """The client under test and its clock."""

    title = "our client"
    is_ours = True

    def __init__(
        self,
        fragment: Callable[[bytes], list[bytes]] = lambda data: [data],
        settings: dict[str, str] | None = None,
    ) -> None:
        self.client: ClientSide | None = self
        self.acknowledges_by_hand = (settings or {}).get("manual_acks") == "true"
        self.fragment = fragment
        self.now = 1000.0
        self.link: ClientLink | None = None
        self.flow: Flow | None = None
        self.told: deque[Packet] = deque()

    def why_not(self, role: str, needs: Iterable[str], settings: dict[str, str]) -> str:
        """Why a scenario cannot be played here."""
        return "" if role == "client" else "it tests a server"

    def connect(self, name: str) -> Link:
        """A connection for the client's next calls."""
        self.link = ClientLink(self, self.flow)
        return self.link

    def wait_until(self, condition: Callable[[], bool], patience_s: float) -> bool:
        """Nothing happens by itself here."""
        return condition()

    def let_the_end_arrive(self) -> None:
        """It has arrived."""

    def settle(self, links: Iterable[Link], is_timed: bool) -> None:
        """Nothing is ever under way here."""

    def pass_time(self, seconds: float) -> None:
        """Go from deadline to deadline, as the timer of an adapter does."""
        end = self.now + seconds
        while self.link is not None:
            deadline = self.link.connection.next_deadline()
            if deadline is None or deadline > end:
                break
            self.now = max(self.now, deadline)
            self.link.connection.advance(self.now)
            self.link.collect()
        self.now = end

    def finish(self, scope: Scope) -> str:
        """Nothing is left over."""
        return ""

    def next_event(self) -> Packet | None:
        """The next packet or state change that the client told of."""
        return self.told.popleft() if self.told else None

    def call(self, verb: str, arguments: Arguments) -> bool:
        """Make a call of the client's interface. False when the client refuses it."""
        assert self.link is not None
        try:
            self._call(self.link.connection, verb, list(arguments))
        except LocalProtocolError:
            return False
        finally:
            self.link.collect()
        return True

    def _call(
        self, connection: Connection, verb: str, arguments: Sequence[tuple[str, bytes]]
    ) -> None:
        given = dict(arguments)
        properties = _properties(given.get("properties"))
        now = self.now
        match verb:
            case "connect":
                connection.send_connect(_connect(given), now)
            case "publish":
                connection.send_publish(
                    given["topic"].decode(),
                    given.get("payload", b""),
                    int(given.get("qos", b"0")),
                    given.get("retain") == b"1",
                    now=now,
                    properties=properties,
                    topic_alias=int(given.get("alias", b"0")),
                )
            case "subscribe":
                connection.send_subscribe(_subscriptions(arguments), now, properties)
            case "unsubscribe":
                filters = [value.decode() for key, value in arguments if key == "filter"]
                connection.send_unsubscribe(filters, now, properties)
            case "ping":
                connection.send_pingreq(now)
            case "puback":
                connection.send_puback(int(given["id"]), now, _reason(given), properties)
            case "pubrec":
                connection.send_pubrec(int(given["id"]), now, _reason(given), properties)
            case "pubcomp":
                connection.send_pubcomp(int(given["id"]), now, _reason(given), properties)
            case "auth":
                connection.send_auth(Auth(_reason(given), properties), now)
            case _:
                connection.send_disconnect(now, _reason(given), properties)


def play_client(
    scenario: Scenario, fragment: Callable[[bytes], list[bytes]] = lambda data: [data]
) -> Result:
    """Play a scenario of the client role against our client."""
    return play(scenario, ClientPeer(fragment, scenario.settings))


def _reason(given: dict[str, bytes]) -> int:
    return int(given.get("reason", b"00"), 16)


def _connect(given: dict[str, bytes]) -> Connect:
    will = None
    if "will" in given:
        will = Will(
            given["will"].decode(),
            given.get("will_payload", b""),
            int(given.get("will_qos", b"0")),
            given.get("will_retain") == b"1",
            _properties(given.get("will_properties")),
        )
    return Connect(
        given.get("id", b"").decode(),
        given.get("clean", b"1") == b"1",
        int(given.get("keep_alive", b"60")),
        will,
        given["user"].decode() if "user" in given else None,
        given.get("password"),
        int(given.get("level", str(MQTT_3_1_1).encode())),
        _properties(given.get("properties")),
    )


def _subscriptions(arguments: Arguments) -> list[Subscription]:
    """What is asked of each filter stands behind it."""
    asked: list[dict[str, bytes]] = []
    for key, value in arguments:
        if key == "filter":
            asked.append({})
        if key != "properties":
            asked[-1][key] = value
    return [
        Subscription(
            one["filter"].decode(),
            int(one["qos"]),
            one.get("no_local") == b"1",
            one.get("as_published") == b"1",
            int(one.get("retain_handling", b"0")),
        )
        for one in asked
    ]


def _properties(data: bytes | None) -> Properties:
    """Properties as the client takes them, from their bytes."""
    split = split_properties(data, 0) if data else None
    if split is None:
        return NO_PROPERTIES
    return tuple((identifier, _value(identifier, value)) for identifier, value in split[0])


def _value(identifier: int, value: bytes) -> PropertyValue:
    kind = BY_IDENTIFIER[identifier].type
    if kind == PAIR:
        size = int.from_bytes(value[:2], "big")
        return value[2 : 2 + size].decode(), value[4 + size :].decode()
    if kind == STRING:
        return value[2:].decode()
    if kind == BINARY:
        return value[2:]
    return number(kind, value)
