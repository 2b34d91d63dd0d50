"""The turns of one client: the link, the timer and who waits, around the core.

Whatever is asked of the core makes the drive due, and one turn of the loop sends it all. What
somebody waits for is a future that hangs on the core's own object.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from time import monotonic
from typing import Final, final

from adapters.asyncio_client._link import GATHER_BYTES, Link, open_link
from adapters.asyncio_client._store import Store
from adapters.stages import ServerAddress, clock_of, why_not_connected
from mqtt_core.client import Client as Core
from mqtt_core.client import (
    ClientClosed,
    ClientLimits,
    Connected,
    Consumer,
    Event,
    Publication,
)

_TIMER_SLACK_S: Final = 0.001  # loops round to milliseconds; waking early would mean waking twice


@final
class Drive:
    """Turns the core of one client on the loop that it is started on.

    Who asks something of the core calls `wake`, unless `is_due` says that a turn is on its way.
    """

    __slots__ = (
        "_address",
        "_core",
        "_deadline",
        "_ended",
        "_fault",
        "_idle",
        "_limits",
        "_link",
        "_loop",
        "_on_state",
        "_online",
        "_opening",
        "_store",
        "_timer",
        "_tls",
        "is_due",
        "now",
    )

    def __init__(
        self,
        core: Core,
        address: ServerAddress,
        limits: ClientLimits,
        tls: ssl.SSLContext | None,
        store: Store | None,
        on_state: Callable[[Event], None] | None,
    ) -> None:
        self._core: Final = core
        self._address: Final = address
        self._limits: Final = limits
        self._tls: Final = tls
        self._store: Final = store
        self._on_state: Final = on_state
        self._loop: asyncio.AbstractEventLoop | None = None
        self._link: Link | None = None
        self._opening: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        self._fault: Exception | None = None
        self._online: list[asyncio.Future[None]] = []  # who waits for a connection
        self._idle: list[asyncio.Future[None]] = []  # who waits until nothing is to be sent
        self._ended: list[asyncio.Future[None]] = []
        self.is_due = False
        self.now: Callable[[], float] = monotonic  # the loop's, once there is one

    # Life

    @property
    def is_started(self) -> bool:
        """Whether it has a loop."""
        return self._loop is not None

    def start(self) -> None:
        """Begin, on the loop that runs."""
        self._loop = asyncio.get_running_loop()
        self.now = clock_of(self._loop)
        self._core.start(self.now())
        if self._store is not None:
            self._store.start(self._loop, self.turn)
        self.turn()

    async def stop(self) -> None:
        """Disconnect and wait for it; cancelled or not, nothing is left running."""
        self._core.disconnect(self.now())
        if self._loop is not None:
            self.turn()
        try:
            opening = self._opening
            if opening is not None:
                opening.cancel()
                await asyncio.wait([opening])
            if self._link is not None:
                await self._link.wait_gone()
        finally:
            if self._link is not None:
                self._link.abort()
            if self._timer is not None:
                self._timer.cancel()
            if self._store is not None:
                await self._store.close()

    # Who waits

    def running_loop(self) -> asyncio.AbstractEventLoop:
        """The loop. Raises `ClientClosed` before there is one."""
        if self._loop is None:
            raise ClientClosed("the client is not connected yet: `async with Client(...)`")
        return self._loop

    def check_running(self) -> None:
        """Raises `ClientClosed` where the client has ended."""
        if self._core.has_ended:
            closed = ClientClosed("the client is closed: make a new one")
            closed.__cause__ = self._fault or self._core.error
            raise closed

    async def wait_online(self) -> None:
        """Wait until there is a connection. Raises `ClientClosed`."""
        while not self._core.is_online:
            self.check_running()
            await self._wait_in(self._online)

    async def wait_first(self) -> None:
        """Wait until there has been a connection, be it over again. Raises `ClientClosed`."""
        while not self._core.counters.connections:
            self.check_running()
            await self._wait_in(self._online)

    async def wait_idle(self) -> None:
        """Wait until nothing is to be sent or acknowledged. Raises `ClientClosed`."""
        while self._core.pending_messages or self._core.in_flight:
            self.check_running()
            await self._wait_in(self._idle)

    async def wait_ended(self) -> None:
        """Wait until the client has ended."""
        while not self._core.has_ended:
            await self._wait_in(self._ended)

    async def _wait_in(self, waiting: list[asyncio.Future[None]]) -> None:
        future = self.running_loop().create_future()
        waiting.append(future)
        try:
            await future
        finally:
            if future in waiting:
                waiting.remove(future)

    async def wait_for(self, what: Publication | Consumer) -> None:
        """Wait until there is something to look at; those who wait for the same share a future."""
        shared = what.waiter
        if isinstance(shared, asyncio.Future):
            await asyncio.wait([shared])
            return
        future = self.running_loop().create_future()
        what.waiter = future
        try:
            await future
        finally:
            if what.waiter is future:
                what.waiter = None

    # The turn

    def wake(self) -> None:
        """Let a turn be made before the loop sleeps."""
        if not self.is_due and self._loop is not None:
            self.is_due = True
            self._loop.call_soon(self.turn)

    def turn(self) -> None:
        """One turn; a fault in it ends the client, and says so."""
        try:
            self._make_turn()
        except Exception as error:  # noqa: BLE001  of `on_state`, or ours
            self._end_by_fault(error)

    def _end_by_fault(self, error: Exception) -> None:
        if self._fault is None and self._loop is not None:
            self._fault = error
            self._loop.call_exception_handler(
                {"message": "the MQTT client ends by a fault", "exception": error}
            )
            self._core.disconnect(self.now())
            if self._link is not None:
                self._link.abort()
            self.wake()

    def _make_turn(self) -> None:
        """Send what there is, tell who waits, and do as the core wants."""
        self.is_due = False
        core = self._core
        if self._store is not None:
            self._store.serve()
        link = self._link
        if link is not None:
            self._flush(link)
            if core.wants_close:
                link.close()
            else:
                link.read(core.wants_read)
        _tell(core.take_told())
        for event in core.events():
            if isinstance(event, Connected):
                _tell_all(self._online)
            if self._on_state is not None and self._fault is None:
                self._on_state(event)
        if core.wants_transport and self._opening is None and self._loop is not None:
            self._opening = self._loop.create_task(self._open())
        if self._idle and not (core.pending_messages or core.in_flight):
            _tell_all(self._idle)
        if core.has_ended:
            _tell_all(self._online)
            _tell_all(self._idle)
            _tell_all(self._ended)
        self._arm()

    def _flush(self, link: Link) -> None:
        core = self._core
        now = self.now()
        # The last bytes go to a transport that has more to send already: it is about to be closed.
        while link.is_writable or core.wants_close:
            data = core.data_to_send(now)
            if not data:
                return
            pieces = [data]
            size = len(data)
            while size < GATHER_BYTES:
                data = core.data_to_send(now)
                if not data:
                    break
                pieces.append(data)
                size += len(data)
            link.write(pieces)

    def _arm(self) -> None:
        """Have the timer fire when the core wants it; one that fires early is armed again."""
        deadline = self._core.next_deadline()
        timer = self._timer
        if timer is not None:
            if deadline is None or (self._deadline is not None and deadline < self._deadline):
                timer.cancel()
            else:
                return
        self._timer = None
        if deadline is not None and self._loop is not None:
            self._deadline = deadline
            delay_s = max(0.0, deadline - self.now()) + _TIMER_SLACK_S
            self._timer = self._loop.call_later(delay_s, self._due)

    def _due(self) -> None:
        self._timer = None
        self._core.advance(self.now())
        self.turn()

    # Connections

    async def _open(self) -> None:
        """Open a connection, and tell the core."""
        address = self._address
        limits = self._limits
        core = self._core
        try:
            if core.server_reference:
                address = address.elsewhere(core.server_reference)
            async with asyncio.timeout(limits.connect_timeout_s):
                link = await open_link(address, self, self._tls, limits.max_packet_size_bytes)
        except asyncio.CancelledError:
            self._opening = None
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, there is no connection
            self._opening = None
            core.open_failed(why_not_connected(error, address), self.now())
        else:
            self._opening = None
            if not core.wants_transport:
                link.abort()
            elif link.hand_over():
                self._begin(link)
            else:
                core.open_failed("the server has closed the connection", self.now())
        self.turn()

    def _begin(self, link: Link) -> None:
        """Greet the server; a fault in it, of a `mechanism` say, ends the client."""
        self._link = link
        core = self._core
        try:
            core.opened(self.now())
            core.set_writable(link.is_writable, self.now())
            early = link.take_early()
            if early:
                core.receive_data(early, self.now())
        except Exception as error:  # noqa: BLE001  told to whoever waits
            self._end_by_fault(error)

    def link_received(self, data: bytes) -> None:
        """`Owner`: bytes have come."""
        self._core.receive_data(data, self.now())
        self.turn()

    def link_writable(self, is_writable: bool) -> None:
        """`Owner`: whether the transport takes more."""
        self._core.set_writable(is_writable, self.now())
        if is_writable:
            self.wake()

    def link_lost(self, link: Link, why: str) -> None:
        """`Owner`: the connection is over."""
        if link is self._link:
            self._link = None
            self._core.eof(why, self.now())
            self.turn()

    def link_failed(self, link: Link, error: Exception) -> None:
        """`Owner`: a fault of ours; the client ends with it."""
        self._end_by_fault(error)


def _tell(waiters: list[object]) -> None:
    for waiter in waiters:
        assert isinstance(waiter, asyncio.Future)
        if not waiter.done():
            waiter.set_result(None)


def _tell_all(waiting: list[asyncio.Future[None]]) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None)
    waiting.clear()
