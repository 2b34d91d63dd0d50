"""Wills whose time has not come (3.1.3.2.2): published after their delay or at the end of their
session, whichever is first, unless the client is back before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.model.messages import Sent

if TYPE_CHECKING:
    from tests.model.world import World


@dataclass
class Waiting:
    """A will that waits until it is due, unless it has been published without a word."""

    message: Sent
    due: float
    is_certain: bool = True


class Wills:
    """The wills that wait, by client."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.waiting: dict[str, Waiting] = {}

    def wait(self, message: Sent, due: float) -> None:
        """A connection has ended whose will is delayed."""
        self.waiting[message.client_id] = Waiting(message, due)

    def publish(self, message: Sent, *, is_certain: bool = True) -> None:
        """The broker publishes a will."""
        world = self._world
        world.sent(message)
        if is_certain and world.is_reliable and world.takes_all:
            world.accepted(message)

    def pass_time(self, now: float) -> None:
        """Publish those that are due."""
        for client_id, waiting in sorted(self.waiting.items(), key=lambda item: item[1].due):
            if waiting.due <= now:
                del self.waiting[client_id]
                self._world.now = waiting.due
                self.publish(waiting.message, is_certain=waiting.is_certain)

    def session_ends(self, client_id: str) -> None:
        """The session of a client has ended."""
        waiting = self.waiting.pop(client_id, None)
        if waiting is not None:
            self.publish(waiting.message, is_certain=waiting.is_certain)

    def cancel(self, client_id: str) -> None:
        """A client is back in its session.  [MQTT-3.1.3-9]"""
        self.waiting.pop(client_id, None)

    def may_be_published(self, client_id: str) -> None:
        """The session of a client may end before its client is told."""
        waiting = self.waiting.get(client_id)
        if waiting is not None:
            waiting.is_certain = False
            waiting.message.is_vague = True
            self._world.sent(waiting.message)
