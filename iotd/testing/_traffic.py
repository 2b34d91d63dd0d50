"""What has passed over the links of a rig, as a table for whoever reads why a test has failed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, final

from conformance.diagram import DiagramReader
from conformance.recording import CAME, CLOSED, CUT, SENT, Occurrence, Recorder, Redaction
from iotd.testing._link import Wire

MOST_PACKETS: Final = 10_000
"""Packets that are remembered; of more the oldest are forgotten, and counted."""


@final
class Traffic:
    """`Observer` of all links of a rig. Credentials are not shown."""

    def __init__(self, age_s: Callable[[], float]) -> None:
        self._age_s: Final = age_s
        self._occurrences: Final[deque[Occurrence]] = deque(maxlen=MOST_PACKETS)
        self._recorder: Final = Recorder(self._occurrences.append, Redaction())
        self._links: Final[dict[int, str]] = {}
        self._cut: Final[set[int]] = set()  # connections that neither side has ended

    def opened(self, wire: Wire) -> None:
        """`Observer`: a connection was made."""
        self._links[wire.number] = wire.link.name

    def sent(self, wire: Wire, to_broker: bool, data: bytes) -> None:
        """`Observer`: bytes have left one side."""
        self._recorder.add_bytes(self._age_s(), wire.number, SENT if to_broker else CAME, data)

    def ended(self, wire: Wire, by_client: bool | None) -> None:
        """`Observer`: a connection has ended."""
        if by_client is None:
            self._cut.add(wire.number)
        self._recorder.add_end(self._age_s(), wire.number, CLOSED if by_client is False else CUT)

    def lines(self, most: int) -> list[str]:
        """The last packets, one in a line, with their times."""
        reader = DiagramReader(keeps_lanes=False)
        rows = []
        for one in self._occurrences:
            row = reader.row(one)
            text = f"{row.name} {row.text}".strip()
            if one.what == CUT and one.connection in self._cut:
                text = "the link is cut"
            arrow = "-" if not row.name else ">" if row.is_to_broker else "<"
            rows.append((row.at_s, self._links[one.connection], arrow, text))
        shown = rows[-most:]
        left_out = self._recorder.count - len(shown)
        width = max((len(link) for _, link, _, _ in shown), default=0)
        head = [f"  ({left_out:,} earlier packets are not shown)"] if left_out else []
        return [
            *head,
            *(f"{at:10.3f} s  {link:{width}} {arrow} {text}" for at, link, arrow, text in shown),
        ]
