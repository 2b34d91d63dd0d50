"""What a restart does: all that is stored is read back before the first client comes.

Sessions come first, then wills, a page in each turn. Nothing else happens meanwhile: a will that
was published before the last session is here would miss its receivers. Once everything is here,
all that became due while nobody ran is made up for: sessions end whose time was over, and wills
are published. Then the broker is ready.

A connection that was open when the process ended has ended now, as far as anybody can tell: its
session expires one interval from now, and its will waits for its delay from now on (3.1.2.5 and
3.1.3.2.2 of MQTT 5.0). Times in the store are those of the wall clock. One that has been set back
meanwhile makes nothing wait for longer than a whole interval.
"""

from __future__ import annotations

from typing import Final, final

from mqtt_core._store import (
    Completion,
    Failed,
    ReadSessions,
    ReadWills,
    SessionsPage,
    WillsPage,
)
from mqtt_core.broker._facts import FACT_ERROR, shown
from mqtt_core.broker._pending import Pending
from mqtt_core.broker._publishing import Publishing
from mqtt_core.broker._sessions import Sessions
from mqtt_core.broker._workspace import Workspace

_IDLE: Final = 0  # not asked for
_READING: Final = 1
_CATCHING_UP: Final = 2  # with what has become due meanwhile
_ABANDONED: Final = 3

_PAGE: Final = 2_000  # sessions with all they have: a few milliseconds
_WILLS: Final = 256  # in a page; each may have 64 KiB
_PROGRESS_S: Final = 1.0


@final
class Recovery(Pending):
    """Reads back what is stored."""

    __slots__ = (
        "failure",
        "_ws",
        "_sessions",
        "_publishing",
        "_stage",
        "_began_at",
        "_told_at",
        "_session_count",
        "_message_count",
        "_will_count",
    )

    def __init__(self, workspace: Workspace, sessions: Sessions, publishing: Publishing) -> None:
        self.failure = ""  # why it cannot go on
        self._ws: Final = workspace
        self._sessions: Final = sessions
        self._publishing: Final = publishing
        self._stage = _IDLE
        self._began_at = 0.0
        self._told_at = 0.0
        self._session_count = 0
        self._message_count = 0
        self._will_count = 0

    @property
    def is_over(self) -> bool:
        """Whether clients can be served."""
        return self._stage == _IDLE

    @property
    def holds_time(self) -> bool:
        """Whether nothing may be done that is due, since not all is here."""
        return self._stage in (_READING, _ABANDONED)

    def begin(self) -> None:
        """Ask for the first page."""
        ws = self._ws
        self._stage = _READING
        self._began_at = ws.now
        self._told_at = ws.now
        self._read_sessions(0)

    def abandon(self) -> None:
        """The broker stops: what is stored stays as it is."""
        if self._stage != _IDLE:
            self._stage = _ABANDONED

    # Pages

    def done(self, completion: Completion) -> None:
        """Take a page, and ask for the next."""
        if self._stage != _READING:
            return
        try:
            if isinstance(completion, SessionsPage):
                self._take_sessions(completion)
            else:
                assert isinstance(completion, WillsPage), completion
                self._take_wills(completion)
        except Exception as error:  # noqa: BLE001 - what is wrong must not look like nothing
            self._fail(f"what is stored cannot be used: {shown(error)}", error)

    def failed(self, failure: Failed) -> None:
        """The store cannot be read, so nobody can be served."""
        if self._stage == _READING:
            self._fail(failure.reason)

    def _read_sessions(self, after: int) -> None:
        ws = self._ws
        ws.submit(ReadSessions(ws.next_id(), after, _PAGE), self)

    def _read_wills(self, after: str) -> None:
        ws = self._ws
        ws.submit(ReadWills(ws.next_id(), after, _WILLS), self)

    def _take_sessions(self, page: SessionsPage) -> None:
        records = page.records
        if not records:
            self._read_wills("")
            return
        self._read_sessions(records[-1].session)
        for record in records:
            self._sessions.recover(record)
            self._message_count += len(record.queued) + len(record.in_flight)
        self._session_count += len(records)
        self._tell_progress()

    def _take_wills(self, page: WillsPage) -> None:
        wills = page.wills
        if not wills:
            self._publishing.begin_sweeping()
            self._stage = _CATCHING_UP
            self.look()
            return
        self._read_wills(wills[-1].client_id)
        for stored in wills:
            self._sessions.recover_will(stored)
        self._will_count += len(wills)
        self._tell_progress()

    def look(self) -> None:
        """See whether all is done that was due, if that is what is left to do."""
        if self._stage != _CATCHING_UP:
            return
        ws = self._ws
        at = ws.deadlines.next_at()
        if ws.work or (at is not None and at <= ws.now):
            self._tell_progress()
            return
        self._stage = _IDLE
        if self._session_count or self._will_count:
            seconds = ws.now - self._began_at
            ws.tell("store.recovered", detail=f"{self._figures()} in {seconds:.1f} s")

    # What is told

    def _figures(self) -> str:
        sessions = _count(self._session_count, "session")
        messages = _count(self._message_count, "message")
        return f"{sessions} with {messages}, {_count(self._will_count, 'will')}"

    def _tell_progress(self) -> None:
        ws = self._ws
        if ws.now >= self._told_at + _PROGRESS_S:
            self._told_at = ws.now
            ws.tell("store.recovering", detail=f"{self._figures()} so far")

    def _fail(self, reason: str, error: Exception | None = None) -> None:
        ws = self._ws
        self.failure = reason
        self._stage = _ABANDONED
        ws.stats.store_failures += 1
        ws.tell(
            "store.not_recovered",
            severity=FACT_ERROR,
            detail=f"{reason}; the broker stops, and what is stored stays as it is: see to the "
            "cause and start again, or start with another store",
            error=error,
        )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
