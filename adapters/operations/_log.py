"""The log: facts of the core and events of the program as lines, for people or for machines.

One line per event, quiet per message. What clients send (client ids, topics, messages of
exceptions) is escaped and cut, so that nobody writes lines of their own into the log or commands
into a terminal. Nothing here configures structlog for the rest of the process.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, TextIO, final

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from adapters.operations._lines import LineWriter, render_human, render_json
from mqtt_core.broker import FACT_DEBUG, FACT_ERROR, FACT_INFO, FACT_WARNING, Fact

FORMATS: Final = ("human", "json")
LEVELS: Final[Mapping[str, int]] = {
    "debug": FACT_DEBUG,
    "info": FACT_INFO,
    "warning": FACT_WARNING,
    "error": FACT_ERROR,
}


@final
class Log:
    """An open log. Never raises: what cannot be written is counted and told by a later line."""

    __slots__ = ("_logger", "_writer")

    def __init__(self, logger: FilteringBoundLogger, writer: LineWriter) -> None:
        self._logger: Final = logger
        self._writer: Final = writer

    def fact(self, fact: Fact) -> None:
        """Log something that happened in the core; fields that say nothing are left out."""
        fields: EventDict = {
            "client_id": fact.client_id or None,
            "channel": fact.channel or None,
            "peer": fact.peer or None,
            "listener": fact.listener or None,
            "cause": fact.cause or None,
            "statement": fact.statement or None,
            "offset": fact.offset if fact.offset >= 0 else None,
            "detail": fact.detail or None,
            "error": fact.error,
        }
        told = {name: value for name, value in fields.items() if value is not None}
        self._write(fact.severity, fact.name, told)

    def debug(self, event: str, /, **fields: object) -> None:
        """Log an event of the program that helps to find a fault."""
        self._write(FACT_DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Log an ordinary event of the program."""
        self._write(FACT_INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Log something that works and should be looked at."""
        self._write(FACT_WARNING, event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Log something that does not work."""
        self._write(FACT_ERROR, event, fields)

    def event(self, severity: int, event: str, /, **fields: object) -> None:
        """Log an event of that severity, a level of `logging`."""
        self._write(severity, event, fields)

    def _write(self, severity: int, event: str, fields: EventDict) -> None:
        self._logger.log(severity, event, **fields)
        if self._writer.lost and not self._writer.is_broken:
            count, self._writer.lost = self._writer.lost, 0
            self._logger.warning("log.lines_lost", count=count)


def open_log(stream: TextIO, *, format: str = "human", level: str = "info") -> Log:
    """A log that writes to `stream`, in colour if that is a terminal and NO_COLOR is not set.

    `format` is one of `FORMATS`, `level` one of `LEVELS`. Raises `ValueError` for another one.
    """
    if format not in FORMATS or level not in LEVELS:
        raise ValueError(f"no such log format or level: {format!r}, {level!r}")
    in_colour = format == "human" and stream.isatty() and not os.environ.get("NO_COLOR")
    processors: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        render_json if format == "json" else render_human(in_colour),
    ]
    writer = LineWriter(stream)
    logger: FilteringBoundLogger = structlog.wrap_logger(
        writer,
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
    )
    return Log(logger.bind(), writer)
