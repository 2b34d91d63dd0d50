"""`iotd store`: the store of a stopped broker looked at, verified, compacted, and relieved."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Final

from adapters.storage import StoreError
from adapters.storage.offline import (
    Figures,
    SessionFigures,
    SessionParts,
    faults,
    figures,
    file_bytes,
    log_bytes,
    log_bytes_cut,
    open_to_change,
    open_to_look,
    remove_retained,
    remove_session,
    retained_topics,
    session_figures,
    session_parts,
)
from iotd.cli._config import load_or_tell
from iotd.cli._output import Progress, duration, print_json, print_table, size
from iotd.cli._program import CannotRunError
from iotd.config import printable

_LISTED: Final = 100  # sessions in a table that nobody asked to be longer
_FAULTS: Final = 1_000  # told one by one
_NEVER_S: Final = 0xFFFF_FFFF  # a session expiry interval that does not end (3.1.2.11.2)


def folder_of(file: Path | None, data_dir: str | None) -> Path | None:
    """The folder of the store, found as `iotd serve` finds it.

    None after errors of the configuration were told. Raises `CannotRunError`.
    """
    settings = load_or_tell(file, {"storage.data_dir": data_dir})
    if settings is None:
        return None
    if settings.data_dir is None:
        raise CannotRunError(
            "the configuration keeps all state in memory (storage.in_memory), so there is no "
            "store; name a folder with --data-dir"
        )
    return settings.data_dir


@contextmanager
def telling() -> Iterator[None]:
    """What is wrong with a store, as the line that the program ends with."""
    try:
        yield
    except StoreError as error:
        raise CannotRunError(printable(str(error))) from None


def show_store(file: Path | None, data_dir: str | None, as_json: bool) -> int:
    """Print what a store has in it; returns the exit code."""
    folder = folder_of(file, data_dir)
    if folder is None:
        return 2
    with telling(), open_to_look(folder) as connection:
        found = figures(connection, folder)
    if as_json:
        print(json.dumps(asdict(found), indent=2))
    else:
        _print_figures(found)
    return 0


def _print_figures(found: Figures) -> None:
    rows = [
        ("store", printable(found.path)),
        ("schema", str(found.schema)),
        ("file", size(found.file_bytes)),
        ("of it free", size(found.free_bytes)),
        ("log", size(found.log_bytes)),
        ("sessions", f"{found.sessions:,}"),
        ("subscriptions", f"{found.subscriptions:,}"),
        ("messages waiting", f"{found.waiting:,} ({size(found.queue_bytes)})"),
        ("messages in flight", f"{found.in_flight:,}"),
        ("waiting for PUBREL", f"{found.held:,}"),
        ("retained messages", f"{found.retained:,}"),
        ("wills", f"{found.wills:,}"),
    ]
    if found.left_over:
        rows.append(("left by ended sessions", f"{found.left_over:,}"))
    print_table(["what", ">how much"], rows, ("what",))


def list_sessions(file: Path | None, data_dir: str | None, as_json: bool, limit: int | None) -> int:
    """Print the sessions of a store; returns the exit code."""
    folder = folder_of(file, data_dir)
    if folder is None:
        return 2
    with telling(), open_to_look(folder) as connection:
        if as_json:
            print_json(asdict(each) for each in session_figures(connection, limit or 0))
            return 0
        most = _LISTED if limit is None else limit
        (count,) = connection.execute("SELECT count(*) FROM session").fetchone()
        now = time.time()
        rows = [_session_row(each, now) for each in session_figures(connection, most)]
    heads = ["client", "away", ">expires", ">subs", ">waiting", ">size", ">oldest", ">sent"]
    print_table(heads, rows)
    if len(rows) < count:
        print(f"{len(rows):,} of {count:,} sessions; --limit 0 lists all")
    return 0


def _session_row(session: SessionFigures, now: float) -> tuple[str, ...]:
    away, expires = "connected", duration(session.expiry_s)
    if session.away_since is not None and session.expires_at is not None:
        away, expires = duration(now - session.away_since), _left(session.expires_at - now)
    if session.expiry_s >= _NEVER_S:
        expires = "never"
    return (
        printable(session.client_id),
        away,
        expires,
        f"{session.subscriptions:,}",
        f"{session.waiting:,}",
        size(session.queue_bytes) if session.waiting else "",
        _oldest(session, now),
        f"{session.in_flight:,}",
    )


def _oldest(session: SessionFigures, now: float) -> str:
    if not session.waiting:
        return ""
    return "unknown" if session.oldest_from is None else duration(now - session.oldest_from)


def _left(seconds: float) -> str:
    return duration(seconds) if seconds > 0 else "is over"


def verify_store(file: Path | None, data_dir: str | None) -> int:
    """Read all of a store and print what is damaged; returns the exit code."""
    folder = folder_of(file, data_dir)
    if folder is None:
        return 2
    count = 0

    def on_record() -> None:
        nonlocal count
        count += 1
        tell(count, "records read")

    with telling(), Progress() as tell, open_to_look(folder) as connection:
        damaged = 0
        for fault in faults(connection, on_record):
            damaged += 1
            if damaged <= _FAULTS:
                print(printable(fault))
        cut = log_bytes_cut(folder)
    if cut:
        print(
            f"note: {cut:,} bytes at the end of the log are no whole transaction; the next start "
            "drops them (the power went, or the broker was killed, in the middle of a write)"
        )
    if damaged > _FAULTS:
        print(f"and {damaged - _FAULTS:,} more")
    if not damaged:
        print(f"ok: {count:,} records, nothing is damaged")
        return 0
    print(
        f"iotd: {printable(str(folder))}: {damaged:,} of it damaged; keep a copy of the folder, "
        "then put a backup in its place, or take what can be read with "
        "`iotd store export --skip-damaged` into a new one",
        file=sys.stderr,
    )
    return 1


def compact_store(file: Path | None, data_dir: str | None) -> int:
    """Give the space of a store back that is not in use; returns the exit code."""
    folder = folder_of(file, data_dir)
    if folder is None:
        return 2
    began = time.monotonic()
    with telling(), Progress() as tell:
        before = file_bytes(folder) + log_bytes(folder)
        with open_to_change(folder) as connection:

            def on_work() -> None:
                tell(round(time.monotonic() - began), f"s, compacting {size(before)}")

            connection.set_progress_handler(on_work, 100_000)
            connection.execute("VACUUM")
            connection.set_progress_handler(None, 0)
        after = file_bytes(folder) + log_bytes(folder)
    print(f"before {size(before)}, after {size(after)}")
    return 0


def remove_from_store(
    file: Path | None,
    data_dir: str | None,
    clients: list[str],
    filters: list[str],
    *,
    is_dry: bool,
) -> int:
    """Remove what there is of clients, and retained messages; returns the exit code, which is 1
    if there was nothing of one of them."""
    folder = folder_of(file, data_dir)
    if folder is None:
        return 2
    verb = "would remove" if is_dry else "removed"
    is_all_there = True
    with telling(), (open_to_look if is_dry else open_to_change)(folder) as connection:
        for client_id in clients:
            take = session_parts if is_dry else remove_session
            parts = take(connection, client_id)
            if parts.is_nothing:
                is_all_there = False
                print(f"nothing is stored of client {printable(client_id)}", file=sys.stderr)
            else:
                print(f"{verb} client {printable(client_id)}: {_list(parts)}")
        for topic_filter in filters:
            topics = (retained_topics if is_dry else remove_retained)(connection, topic_filter)
            for topic in topics:
                print(f"{verb} retained message {printable(topic)}")
            if not topics:
                is_all_there = False
                print(f"no retained message matches {printable(topic_filter)}", file=sys.stderr)
    return 0 if is_all_there else 1


def _list(parts: SessionParts) -> str:
    named = [
        ("session", int(parts.has_session)),
        ("subscriptions", parts.subscriptions),
        ("messages waiting", parts.waiting),
        ("in flight", parts.in_flight),
        ("waiting for PUBREL", parts.held),
        ("will", int(parts.has_will)),
    ]
    return ", ".join(f"{count:,} {name}" for name, count in named if count)
