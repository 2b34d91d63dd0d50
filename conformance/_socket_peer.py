"""A live broker at host:port, over blocking-style sockets and real time."""

import contextlib
import errno
import secrets
import selectors
import socket
import struct
import time
from collections.abc import Callable, Iterable

from conformance._items import Scope
from conformance._link import ClientSide, Link
from conformance._probe import clear_packet, connect_packet

Fragment = Callable[[bytes], list[bytes]]

QUIET_S = 0.15
"""How long nothing must come where no PINGREQ can show that nothing is under way."""
REFUSED_WAIT_S = 0.05
"""How long the end of a connection may take to be seen where nothing can show it."""
_LINGER_RESET = struct.pack("ii", 1, 0)
_PEER_GONE = {errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ECONNABORTED}


class SocketLink(Link):
    """One TCP connection."""

    def __init__(self, name: str, peer: "SocketPeer") -> None:
        super().__init__(name)
        self.peer = peer
        self.socket = socket.create_connection(peer.address, timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.selector.register(self.socket, selectors.EVENT_READ, self)

    def send(self, data: bytes) -> None:
        self.note_sent(data)
        for piece in self.peer.fragment(data):
            try:
                self.socket.settimeout(self.peer.send_timeout_s)
                self.socket.sendall(piece)
            except (TimeoutError, OSError) as error:
                if isinstance(error, TimeoutError) or error.errno in _PEER_GONE:
                    return
                raise

    def receive(self) -> None:
        """Take in what is there; called when the socket is readable."""
        try:
            data = self.socket.recv(65536)
        except OSError:
            data = b""
        if data:
            self.note_received(data)
        else:
            self.is_closed = True
            self._unregister()

    def cut(self) -> None:
        # A process that another thread is starting has a copy of the socket until it runs its
        # program, so closing alone might say nothing to the peer for a while.
        with contextlib.suppress(OSError):  # the peer was first
            self.socket.shutdown(socket.SHUT_WR)
        self._close()

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        self._close()

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def pause(self, is_paused: bool) -> None:
        if is_paused and not self.is_paused:
            self._unregister()
        elif self.is_paused and not is_paused:
            self.peer.selector.register(self.socket, selectors.EVENT_READ, self)
        self.is_paused = is_paused

    def _close(self) -> None:
        self._unregister()
        self.socket.close()

    def _unregister(self) -> None:
        if self.socket.fileno() >= 0 and self.socket in self.peer.selector.get_map():
            self.peer.selector.unregister(self.socket)


class SocketPeer:
    """A broker that somebody has started. One SocketPeer for each scenario.

    `settings` are those it was started with; a scenario that needs others is skipped. `shares`:
    other scenarios play against the same broker, so what a scenario leaves behind is removed.
    """

    def __init__(
        self,
        address: tuple[str, int],
        *,
        title: str = "",
        is_ours: bool = False,
        settings: dict[str, str] | None = None,
        can: Iterable[str] = ("live", "alone"),
        shares: bool = False,
        fragment: Fragment = lambda data: [data],
    ) -> None:
        self.client: ClientSide | None = None
        self.address = address
        self.title = title or f"{address[0]}:{address[1]}"
        self.is_ours = is_ours
        self.settings = settings or {}
        self.can = frozenset(can)
        self.shares = shares
        self.fragment = fragment
        self.left_behind: list[str] = []
        """What could not be removed at the end, in words."""
        self.send_timeout_s = 5.0
        self.selector = selectors.DefaultSelector()

    def why_not(self, role: str, needs: Iterable[str], settings: dict[str, str]) -> str:
        """Why a scenario cannot be played here."""
        if role == "client":
            return "it tests a client"
        missing = sorted(set(needs) - self.can)
        if missing:
            return f"it needs: {', '.join(missing)}"
        wanted = [
            f"{key}={value}" for key, value in settings.items() if self.settings.get(key) != value
        ]
        return f"the broker has not {' '.join(wanted)}" if wanted else ""

    def connect(self, name: str) -> Link:
        """Open a connection."""
        return SocketLink(name, self)

    def wait_until(self, condition: Callable[[], bool], patience_s: float) -> bool:
        """Receive until `condition` holds, at most `patience_s`."""
        deadline = time.monotonic() + patience_s
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._receive(left)
        return True

    def settle(self, links: Iterable[Link], is_timed: bool) -> None:
        """Two rounds of PINGREQ: after the first all that was sent is taken in, after the second
        all that it caused has come. Where a ping would disturb the scenario, a quiet time."""
        pingable = [link for link in links if link.can_ping]
        if is_timed or not pingable:
            self.wait_until(lambda: False, QUIET_S)
            return
        for _ in range(2):
            for link in pingable:
                link.send(b"\xc0\x00")
            self.wait_until(
                lambda: all(link.is_closed or not link.pings_unanswered for link in pingable), 2.0
            )
            for link in pingable:
                link.take_last_pingresp()

    def pass_time(self, seconds: float) -> None:
        """Wait in real time, and receive meanwhile."""
        self.wait_until(lambda: False, seconds)

    def let_the_end_arrive(self) -> None:
        """Wait until the broker has seen that a connection ended.

        What a connection opened later is told was done after it. A connection of our own asks, so
        that no keep-alive of the scenario is touched; where it is not let in, time must do.
        """
        connect = connect_packet(f"witness-{secrets.token_hex(4)}".encode())
        try:
            with socket.create_connection(self.address, timeout=2) as witness:
                witness.sendall(connect)
                if witness.recv(4) == b"\x20\x02\0\0":
                    for _ in range(2):
                        witness.sendall(b"\xc0\0")
                        witness.recv(2)
                    witness.sendall(b"\xe0\0")
                    return
        except OSError:
            pass
        time.sleep(REFUSED_WAIT_S)

    def finish(self, scope: Scope) -> str:
        """Remove sessions and retained messages where the broker goes on being used."""
        self.selector.close()
        if self.shares:
            for client_id in scope.client_ids:
                if not self._exchange(connect_packet(client_id), b"\xe0\x00"):
                    name = client_id.decode(errors="replace")
                    self.left_behind.append(f"perhaps a session of client {name!r}")
            if scope.topics:
                packets = b"".join(clear_packet(topic) for topic in scope.topics)
                self._exchange(connect_packet(b""), packets + b"\xe0\x00")
        return ""

    def _receive(self, timeout_s: float) -> None:
        if not self.selector.get_map():
            time.sleep(timeout_s)
            return
        for key, _ in self.selector.select(timeout_s):
            link: SocketLink = key.data
            link.receive()

    def _exchange(self, connect: bytes, then: bytes) -> bool:
        """Whether the broker has let a client in, and has taken what it says then."""
        try:
            with socket.create_connection(self.address, timeout=2) as sock:
                sock.sendall(connect)
                if sock.recv(4)[:2] == b"\x20\x02":
                    sock.sendall(then)
                    sock.shutdown(socket.SHUT_WR)
                    sock.recv(1)
                    return True
        except OSError:
            pass  # A broker that refuses (no anonymous users, say) keeps what is there.
        return False
