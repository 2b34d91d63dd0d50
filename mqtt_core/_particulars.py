"""What MQTT 5.0 adds to a subscription and to a delivery, kept only where somebody asked for it.

A subscription without options, and a delivery without anything of its own, have None in the
place of these: what MQTT 3.1.1 clients do costs nothing more.
"""

from __future__ import annotations

from typing import Final, final

from mypy_extensions import mypyc_attr


@final
@mypyc_attr(acyclic=True)
class Options:
    """The options of a subscription (3.8.3.1) and its identifier (3.8.2.1.2), 0 for none."""

    __slots__ = ("no_local", "retain_as_published", "identifier")

    def __init__(
        self, no_local: bool = False, retain_as_published: bool = False, identifier: int = 0
    ) -> None:
        self.no_local: Final = no_local
        self.retain_as_published: Final = retain_as_published
        self.identifier: Final = identifier

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Options)
            and self.no_local == other.no_local
            and self.retain_as_published == other.retain_as_published
            and self.identifier == other.identifier
        )

    def __hash__(self) -> int:
        return hash((self.no_local, self.retain_as_published, self.identifier))

    def __repr__(self) -> str:
        return (
            f"Options(no_local={self.no_local}, "
            f"retain_as_published={self.retain_as_published}, identifier={self.identifier})"
        )


def make_options(no_local: bool, retain_as_published: bool, identifier: int) -> Options | None:
    """Options, or None where there is nothing to note."""
    if no_local or retain_as_published or identifier:
        return Options(no_local, retain_as_published, identifier)
    return None


@final
@mypyc_attr(acyclic=True)
class Particulars:
    """What one delivery has of its own: the RETAIN flag, and the identifiers of the
    subscriptions that it answers. `share` is the whole filter of the shared subscription that
    it is for, empty for others: if it comes to nothing here, another member may have it.

    `is_plain` says that nothing of this can be seen by the client.
    """

    __slots__ = ("retain", "identifiers", "share", "is_plain")

    def __init__(self, retain: bool, identifiers: tuple[int, ...] = (), share: bytes = b"") -> None:
        self.retain: Final = retain
        self.identifiers: Final = identifiers
        self.share: Final = share
        self.is_plain: Final[bool] = not retain and not identifiers

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Particulars)
            and self.retain == other.retain
            and self.identifiers == other.identifiers
            and self.share == other.share
        )

    def __hash__(self) -> int:
        return hash((self.retain, self.identifiers, self.share))

    def __repr__(self) -> str:
        return (
            f"Particulars(retain={self.retain}, identifiers={self.identifiers}, "
            f"share={self.share!r})"
        )


RETAINED: Final = Particulars(True)
"""A retained message for a new subscription without identifier."""


def of_retained(options: Options | None) -> Particulars:
    """What retained messages have of their own that are sent for a subscription."""
    if options is None or not options.identifier:
        return RETAINED
    return Particulars(True, (options.identifier,))


def make_particulars(retain: bool, identifiers: tuple[int, ...]) -> Particulars | None:
    """Particulars, or None where there is nothing to note."""
    if identifiers:
        return Particulars(retain, identifiers)
    return RETAINED if retain else None
