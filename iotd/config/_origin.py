"""Where a value came from."""

from __future__ import annotations

from typing import Final, final

from iotd.config._toml_lines import LineMap, Path

LAYERS: Final = ("default", "file", "environment", "flag")
"""Where values come from; a later one wins."""


@final
class Origin:
    """Where a value came from: the layer, and the place within it for a person to look at."""

    __slots__ = ("layer", "lines", "path", "place")

    def __init__(
        self, layer: str, place: str = "", lines: LineMap | None = None, path: Path = ()
    ) -> None:
        self.layer: Final = layer
        self.place: Final = place
        self.lines: Final = lines
        self.path: Final = path

    def within(self, *path: str | int) -> Origin:
        """The origin of a part of the value."""
        return Origin(self.layer, self.place, self.lines, (*self.path, *path))

    @property
    def line(self) -> int:
        """The line in the file; 0 where there is none."""
        return self.lines.line_of(self.path) if self.lines is not None else 0

    @property
    def order(self) -> tuple[int, int]:
        """Sorts origins by layer, then by line."""
        return LAYERS.index(self.layer), self.line

    def __str__(self) -> str:
        """`iotd.toml:12`, `environment IOTD_LOG_LEVEL`, `flag --listen` or `default`."""
        if self.layer == "file":
            return f"{self.place}:{self.line}" if self.line else self.place
        return f"{self.layer} {self.place}".rstrip()


DEFAULT: Final = Origin("default")
