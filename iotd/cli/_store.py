"""The durable store of a program: opened, and what it has to say, in the log."""

from __future__ import annotations

from time import monotonic
from typing import Final

from adapters.operations import Log
from iotd.cli._program import CannotRunError
from iotd.config import Settings, printable
from mqtt_core.broker import LEVELS, Engine

_PROGRESS_INTERVAL_S: Final = 1.0


def open_store(settings: Settings, log: Log) -> Engine | None:
    """The engine that keeps state in the folder of the settings; None if all is kept in memory.

    Raises `CannotRunError` where the store cannot be opened.
    """
    folder = settings.data_dir
    if folder is None:
        return None
    from adapters.storage import Notice, SqliteEngine, StoreError, StoreLimits  # loads SQLite

    told_at = monotonic()

    def on_progress(done: int, total: int) -> None:
        nonlocal told_at
        if monotonic() - told_at >= _PROGRESS_INTERVAL_S:
            told_at = monotonic()
            log.info("storage.opening", messages=done, of=total)

    def on_notice(notice: Notice) -> None:
        log.event(notice.severity, notice.name, detail=notice.detail)

    limits = StoreLimits(
        max_bytes=settings.max_store_bytes, max_messages=settings.max_stored_messages
    )
    try:
        engine = SqliteEngine(
            folder,
            settings.limits,
            limits,
            level=LEVELS[settings.durability],
            may_start_empty=settings.may_start_empty,
            on_progress=on_progress,
            on_notice=on_notice,
        )
    except StoreError as error:
        raise CannotRunError(printable(str(error))) from None
    report = engine.report
    log.info(
        "storage.opened",
        path=str(report.path),
        durability=settings.durability,
        sessions=report.sessions,
        messages=report.messages,
        retained=report.retained,
        seconds=round(report.seconds, 3),
    )
    if report.kept_as is not None:
        log.error(
            "storage.set_aside",
            path=str(report.kept_as),
            detail="it could not be read, and what was in it is not served; it was not deleted",
        )
    if report.log_bytes_cut:
        log.warning(
            "storage.log_cut",
            bytes=report.log_bytes_cut,
            detail="the last write before the end was not whole; nothing acknowledged was in it",
        )
    return engine
