"""What a storage engine refuses: counted, and told in words that say what to do."""

from __future__ import annotations

from typing import Final

from mqtt_core._store import RETAINED_FULL, STORE_BROKEN, Failed
from mqtt_core.broker._channel import Channel
from mqtt_core.broker._facts import FACT_ERROR, FACT_WARNING
from mqtt_core.broker._workspace import Workspace

_EPISODE_S: Final = 60.0


def note_refusal(
    ws: Workspace,
    failure: Failed,
    channel: Channel | None = None,
    *,
    client_id: str = "",
    what: str = "a change",
) -> None:
    """Count a refusal, and report it: a limit once a minute, anything else each time.

    `what` was to be stored.
    """
    if failure.kind == STORE_BROKEN:
        ws.stats.store_failures += 1
        ws.tell(
            "store.failed",
            channel,
            severity=FACT_ERROR,
            client_id=client_id,
            detail=failure.reason,
        )
        return
    name = "store.refused"
    detail = f"{failure.reason}: {what} is refused, and so is what else needs room"
    if failure.kind == RETAINED_FULL:
        name = "retained.limit"
        detail = (
            f"{failure.reason}: {what} is not retained; see retained_message_limit and "
            "retained_bytes_limit"
        )
    else:
        ws.stats.store_refusals += 1
    told_at = ws.refusals_told.get(name)
    if told_at is None or ws.now >= told_at + _EPISODE_S:
        ws.refusals_told[name] = ws.now
        ws.tell(name, channel, severity=FACT_WARNING, client_id=client_id, detail=detail)
