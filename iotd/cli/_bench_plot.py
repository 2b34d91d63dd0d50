"""A plot of what brokers have done: rates with their spread, and latency by percentile.

A small SVG of our own: bars and lines need no plotting library, and a picture of a benchmark should
not bring in numpy with one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final, NamedTuple

from adapters.bench.comparing import Row
from adapters.bench.histogram import Histogram
from adapters.bench.results import histogram_of

_WIDTH: Final = 960
_HEIGHT: Final = 340  # of one scenario
_TOP, _BOTTOM = 64, 48
_LEFT_PANEL: Final = (150, 440)  # where rates lie, from left to right
_RIGHT_PANEL: Final = (540, 930)  # where latencies lie

_COLOURS: Final = ("#0b7285", "#e8590c", "#5f3dc4", "#2b8a3e", "#c2255c", "#495057")
_SHARES: Final = (
    0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999,
)  # fmt: skip
_TICKS: Final = ((0.0, "0"), (0.5, "50"), (0.9, "90"), (0.99, "99"), (0.999, "99.9"),
                 (0.9999, "99.99 %"))  # fmt: skip


class Chart(NamedTuple):
    """One scenario: what it is, and a row for each broker."""

    title: str
    rows: Sequence[Row]


def write_plot(path: Path, charts: Sequence[Chart]) -> None:
    """Draw the charts, one below the other, as SVG or, by the name of the file, PNG."""
    picture = svg_of(charts)
    if path.suffix == ".png":
        import resvg_py  # an extra; who has chosen PNG has been told

        path.write_bytes(resvg_py.svg_to_bytes(svg_string=picture, zoom=2, background="white"))
    else:
        path.write_text(picture, encoding="utf-8")


def svg_of(charts: Sequence[Chart]) -> str:
    """The charts as SVG."""
    height = _HEIGHT * len(charts)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" font-family="DejaVu Sans, Verdana, sans-serif" '
        'font-size="12" fill="#212529">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
    ]
    for number, chart in enumerate(charts):
        parts.append(f'<g transform="translate(0 {number * _HEIGHT})">')
        parts.append(_text(20, 26, chart.title, "start", 'font-size="14" font-weight="bold"'))
        rows = [row for row in chart.rows if row["runs"]]
        parts += _rates(rows)
        parts += _latencies(rows)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>\n"])


def _rates(rows: Sequence[Row]) -> list[str]:
    """A bar for the median of each broker, and a line from its slowest to its fastest run."""
    left, right = _LEFT_PANEL
    parts = [_text(left, 50, "a second, median; line: slowest to fastest run", "start", _FAINT)]
    most = max((result["out_per_s"] for row in rows for result in row["runs"]), default=0.0) or 1.0
    step = (_HEIGHT - _TOP - _BOTTOM) / max(1, len(rows))
    thick = min(34.0, step * 0.6)
    for number, row in enumerate(rows):
        middle = _TOP + step * (number + 0.5)
        rates = [result["out_per_s"] for result in row["runs"]]
        scale = (right - left) / most
        colour = _COLOURS[number % len(_COLOURS)]
        end = left + row["out_per_s"] * scale
        parts.append(
            f'<rect x="{left}" y="{middle - thick / 2:.1f}" width="{end - left:.1f}" '
            f'height="{thick:.1f}" fill="{colour}"/>'
        )
        parts.append(
            _line(left + min(rates) * scale, middle, left + max(rates) * scale, middle, _INK)
        )
        parts.append(_text(left - 8, middle + 4, _cut(row["broker"]), "end"))
        shown = f"{row['out_per_s']:,.0f}"
        parts.append(_text(left + 6, middle + thick / 2 + 14, shown, "start"))
    parts.append(_line(left, _TOP, left, _HEIGHT - _BOTTOM, _INK))
    return parts


def _latencies(rows: Sequence[Row]) -> list[str]:
    """Latency of all runs of each broker, by percentile, on logarithmic axes."""
    left, right = _RIGHT_PANEL
    parts = [_text(left, 50, "latency in ms, by percentile", "start", _FAINT)]
    curves = [(row["broker"], _curve(row)) for row in rows]
    values = [value for _, curve in curves for value in curve if value > 0]
    low = math.floor(math.log10(min(values, default=0.1)))
    high = max(low + 1, math.ceil(math.log10(max(values, default=1.0))))
    bottom = _HEIGHT - _BOTTOM

    def across(share: float) -> float:
        return left + (right - left) * -math.log10(1 - share) / 4

    def up(value: float) -> float:
        place = (math.log10(max(value, 10.0**low)) - low) / (high - low)
        return bottom - (bottom - _TOP) * place

    for power in range(low, high + 1):
        parts.append(_line(left, up(10.0**power), right, up(10.0**power), _GRID))
        parts.append(_text(left - 6, up(10.0**power) + 4, f"{10.0**power:g}", "end"))
    for share, label in _TICKS:
        parts.append(_line(across(share), _TOP, across(share), bottom, _GRID))
        parts.append(_text(across(share), bottom + 16, label, "middle"))
    for number, (broker, curve) in enumerate(curves):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(
            f"{across(share):.1f},{up(value):.1f}"
            for share, value in zip(_SHARES, curve, strict=True)
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        # Curves rise to the right, so there is room below them.
        place = bottom - 8 - 15 * (len(curves) - 1 - number)
        thick = f'stroke="{colour}" stroke-width="2"'
        parts.append(_line(right - 24, place - 4, right - 8, place - 4, thick))
        parts.append(_text(right - 30, place, _cut(broker), "end"))
    return parts


def _curve(row: Row) -> list[float]:
    """Latencies at the shares that are drawn, over all runs together."""
    together = Histogram()
    for result in row["runs"]:
        together.merge(histogram_of(result))
    return together.percentiles_ms(_SHARES)


_FAINT: Final = 'fill="#495057"'
_INK: Final = 'stroke="#212529" stroke-width="1.5"'
_GRID: Final = 'stroke="#dee2e6"'


def _cut(name: str) -> str:
    return name if len(name) <= 20 else f"{name[:19]}…"


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {style}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'
