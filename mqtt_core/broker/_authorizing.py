"""Whether a client may use a topic: the policy's answer, remembered, or one from outside."""

from __future__ import annotations

from typing import Final, final

from mqtt_core.broker._auth import ALLOW, ASK, DENY, AuthorizeRequest, Decision
from mqtt_core.broker._channel import Channel
from mqtt_core.broker._session import Session
from mqtt_core.broker._workspace import WAIT_VERDICT, Workspace

_REMEMBERED_TOPIC_BYTES: Final = 512


def _key(action: int, topic: bytes, qos: int, retain: bool) -> tuple[int, bytes]:
    """What a verdict is about."""
    return (action | qos << 2 | (16 if retain else 0), topic)


@final
class Authorizer:
    """Asks the policy, and where it says `ASK`, asks outside while that channel waits.

    The packet that the question is about is handled again from its beginning when the verdict
    has come; verdicts for it are kept with the channel until it is done.
    """

    __slots__ = ("_ws", "_limit")

    def __init__(self, workspace: Workspace) -> None:
        self._ws: Final = workspace
        self._limit: Final = workspace.limits.authorization_cache_entries

    def check(
        self, channel: Channel, session: Session, action: int, topic: bytes, qos: int, retain: bool
    ) -> int:
        """`ALLOW`, `DENY`, or `ASK`: the channel then waits."""
        key = _key(action, topic, qos, retain)
        known = session.verdicts
        if known is not None and key in known:
            return ALLOW if known[key] else DENY
        verdict = self.ask(channel, session.client_id, session.username, action, topic, qos, retain)
        if verdict != ASK:
            self._remember(session, key, verdict == ALLOW)
        return verdict

    def ask(
        self,
        channel: Channel,
        client_id: str,
        username: str | None,
        action: int,
        topic: bytes,
        qos: int,
        retain: bool,
    ) -> int:
        """The same without a session to remember it in."""
        decided = channel.verdicts
        key = _key(action, topic, qos, retain)
        if decided is not None and key in decided:
            return ALLOW if decided[key] else DENY
        name = topic.decode()
        verdict = self._ws.policy.authorize(client_id, username, action, name)
        if verdict != ASK:
            return verdict
        token = self._ws.next_id()
        channel.wait = WAIT_VERDICT
        self._ws.wait_for_answer(channel)
        if decided is None:
            channel.verdicts = {}
        channel.asked = key
        self._ws.ask(
            channel,
            AuthorizeRequest(token, client_id, username, action, name, qos=qos, retain=retain),
        )
        return ASK

    def decided(self, channel: Channel, decision: Decision) -> None:
        """The verdict that the channel waits for."""
        asked = channel.asked
        verdicts = channel.verdicts
        assert asked is not None
        assert verdicts is not None
        verdicts[asked] = decision.is_accepted
        channel.asked = None

    def _remember(self, session: Session, key: tuple[int, bytes], is_allowed: bool) -> None:
        if not self._limit or len(key[1]) > _REMEMBERED_TOPIC_BYTES:
            return
        known = session.verdicts
        if known is None:
            known = {}
            session.verdicts = known
        elif len(known) >= self._limit:
            known.clear()  # bounded; what is in use comes back with its next packet
        known[key] = is_allowed
