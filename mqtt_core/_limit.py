"""One limit: its name, default and bounds, and the values that it accepts."""

from __future__ import annotations

from typing import Final, final

LimitValue = int | float | str | bool

_LONGEST_TEXT_BYTES: Final = 1_024


def _is_text(value: str) -> bool:
    """Whether a text can be sent as a string of MQTT (1.5.4 of MQTT 5.0), and is not too long."""
    try:
        return len(value.encode()) <= _LONGEST_TEXT_BYTES and "\0" not in value
    except UnicodeEncodeError:
        return False


@final
class Limit:
    """One limit: its name (with the unit), default, bounds, configuration section and reason."""

    __slots__ = ("name", "section", "default", "minimum", "maximum", "choices", "description")

    def __init__(
        self,
        section: str,
        name: str,
        default: LimitValue,
        description: str,
        *,
        minimum: float = 0,
        maximum: float = 0,
        choices: tuple[str, ...] = (),
    ) -> None:
        self.section: Final = section
        self.name: Final = name
        self.default: Final = default
        self.description: Final = description
        self.minimum: Final = minimum
        self.maximum: Final = maximum
        self.choices: Final = choices

    def allowed(self) -> str:
        """What values are accepted, in words for an error message."""
        if self.choices:
            return "one of " + ", ".join(f'"{choice}"' for choice in self.choices)
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, str):
            return f"a text of at most {_LONGEST_TEXT_BYTES:,} bytes, without a null character"
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        return f"{kind} from {self.minimum:g} to {self.maximum:,.0f}"

    def accepts(self, value: LimitValue) -> bool:
        """Whether `value` has the right type and lies within the bounds."""
        if self.choices:
            return isinstance(value, str) and value in self.choices
        if isinstance(self.default, str):
            return isinstance(value, str) and _is_text(value)
        if isinstance(self.default, bool):
            return isinstance(value, bool)
        if isinstance(value, (bool, str)):
            return False
        if isinstance(self.default, int) and not isinstance(value, int):
            return False
        return self.minimum <= value <= self.maximum
