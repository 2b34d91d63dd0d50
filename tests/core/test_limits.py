"""Every limit: its description, its bounds, and the class that holds a set of them."""

from __future__ import annotations

import pytest

from mqtt_core.broker import LIMITS, Limit, Limits


def test_annotations_and_descriptions_are_of_the_same_names() -> None:
    # A compiled class has attributes in place of annotations.
    declared = set(Limits.__annotations__) or {
        name for name in dir(Limits()) if not name.startswith("_")
    }
    assert declared == {limit.name for limit in LIMITS}


def test_names_are_unique_and_have_their_unit() -> None:
    names = [limit.name for limit in LIMITS]
    assert len(set(names)) == len(names)
    for limit in LIMITS:
        assert limit.description.endswith(".")
        assert limit.section in {"server", "session", "router", "mqtt5", "auth"}


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: limit.name)
def test_the_default_is_allowed(limit: Limit) -> None:
    assert limit.accepts(limit.default)
    assert getattr(Limits(), limit.name) == limit.default
    assert limit.allowed()


NUMBERS = [
    limit for limit in LIMITS if not limit.choices and not isinstance(limit.default, (bool, str))
]
TEXTS = [limit for limit in LIMITS if not limit.choices and isinstance(limit.default, str)]


@pytest.mark.parametrize("limit", TEXTS, ids=lambda limit: limit.name)
def test_a_text_is_a_string_of_mqtt_and_not_too_long(limit: Limit) -> None:
    assert limit.accepts("x" * 1_024)
    assert not limit.accepts("x" * 1_025)
    assert not limit.accepts("a\0b")  # MQTT has no such string (1.5.4)
    assert not limit.accepts("\udc80")
    assert not limit.accepts(1)
    assert "1,024" in limit.allowed()


@pytest.mark.parametrize("limit", NUMBERS, ids=lambda limit: limit.name)
def test_a_number_is_within_its_bounds(limit: Limit) -> None:
    is_whole = isinstance(limit.default, int)
    kind = int if is_whole else float
    for value in (limit.minimum, limit.maximum):
        assert limit.accepts(kind(value))
        assert getattr(Limits(**{limit.name: kind(value)}), limit.name) == value
    for wrong in (kind(limit.minimum - 1), kind(limit.maximum + 1), "1", True):
        assert not limit.accepts(wrong)
        with pytest.raises(ValueError, match=limit.name):
            Limits(**{limit.name: wrong})
    assert limit.accepts(float(limit.maximum)) is not is_whole
    assert ("whole" in limit.allowed()) is is_whole


@pytest.mark.parametrize(
    "limit", [limit for limit in LIMITS if limit.choices], ids=lambda limit: limit.name
)
def test_a_choice_is_one_of_those_named(limit: Limit) -> None:
    for choice in limit.choices:
        assert limit.accepts(choice)
        assert choice in limit.allowed()
    assert not limit.accepts("other")
    assert not limit.accepts(1)


@pytest.mark.parametrize(
    "limit",
    [limit for limit in LIMITS if isinstance(limit.default, bool)],
    ids=lambda limit: limit.name,
)
def test_a_flag_is_true_or_false(limit: Limit) -> None:
    assert limit.accepts(True)
    assert limit.accepts(False)
    assert not limit.accepts(1)
    assert not limit.accepts("true")
    assert limit.allowed() == "true or false"


def test_whole_seconds_are_a_number_of_seconds() -> None:
    value = Limits(send_timeout_secs=5).send_timeout_secs
    assert type(value) is float


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown limits: first, second"):
        Limits(second=1, first=2)
