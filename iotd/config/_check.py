"""Judging one given value: is it of the right kind, within its bounds, complete."""

from __future__ import annotations

from typing import Annotated, Final, Literal, cast, get_args, get_origin, get_type_hints

import msgspec

from iotd.config._keys import Key, NotAllowedError, Value
from iotd.config._layers import Given
from iotd.config._origin import Origin
from iotd.config._problems import Problem, nearest, shown
from iotd.config._records import HIDDEN, Rule, User
from mqtt_core import topic_filter_fault

_KINDS: Final[dict[type, str]] = {bool: "true or false", str: "text"}
_FOUND_KINDS: Final[tuple[tuple[type, str], ...]] = (
    (bool, "true or false"),
    (int, "a number"),
    (float, "a number"),
    (str, "text"),
    (list, "a list"),
    (dict, "a table"),
)


def check(given: Given, problems: list[Problem]) -> Value | None:
    """The value if it is good, else `None` with what is wrong added to `problems`."""
    if given.key.record is not None:
        return _check_records(given, given.key.record, problems)
    try:
        return given.key.accept(given.value)
    except NotAllowedError as error:
        found = _kind_of(given.value) if given.key.is_secret else shown(given.value)
        message = f"found {found}; allowed: {error}"
        problems.append(Problem(given.origin, given.key.path, message))
        return None


def _check_records(
    given: Given, record: type[User] | type[Rule], problems: list[Problem]
) -> Value | None:
    key, found = given.key, given.value
    if not isinstance(found, list):
        # The value itself is not shown: it may hold a password.
        message = f"found {_kind_of(found)}; allowed: {key.allowed} ([[{key.path}]] for each)"
        problems.append(Problem(given.origin, key.path, message))
        return None
    before = len(problems)
    records: list[User | Rule] = []
    for index, item in enumerate(found):
        checked = _check_record(key, index, item, record, given.origin.within(index), problems)
        if checked is not None:
            records.append(checked)
    _check_names(key, records, given.origin, problems)
    return cast(Value, tuple(records)) if len(problems) == before else None


def _check_record(
    key: Key,
    index: int,
    item: object,
    record: type[User] | type[Rule],
    origin: Origin,
    problems: list[Problem],
) -> User | Rule | None:
    name = f"{key.path}[{index}]"
    if not isinstance(item, dict):
        message = f"found {_kind_of(item)}; allowed: a table"
        problems.append(Problem(origin, name, message))
        return None
    before = len(problems)
    hints = get_type_hints(record, include_extras=True)
    for field, value in item.items():
        where = origin.within(field)
        if field not in hints:
            guess = nearest(field, hints)
            hint = f'did you mean "{guess}"?' if guess else "a table has " + ", ".join(hints)
            problems.append(Problem(where, f"{name}.{field}", f"unknown key; {hint}"))
            continue
        try:
            msgspec.convert(value, hints[field])
        except msgspec.ValidationError:
            found = _kind_of(value) if field in HIDDEN else shown(value)
            message = f"found {found}; allowed: {allowed_by(hints[field])}"
            problems.append(Problem(where, f"{name}.{field}", message))
    for info in msgspec.structs.fields(record):
        if info.required and info.name not in item:
            problems.append(Problem(origin, f"{name}.{info.name}", "is missing"))
    if len(problems) > before:
        return None
    checked = msgspec.convert(item, record)
    for message in _faults(checked):
        problems.append(Problem(origin, name, message))
    return checked


def _faults(record: User | Rule) -> list[str]:
    """What no single field shows."""
    if isinstance(record, Rule):
        fault = topic_filter_fault(record.topic.encode())
        return [f"topic {shown(record.topic)} is not a topic filter: {fault[0]}"] if fault else []
    if record.password and record.password_hash:
        return ["has both password and password_hash; keep the hash"]
    if not record.password and not record.password_hash:
        return ["needs password_hash (make one with: iotd hash-password)"]
    if record.password_hash and not is_password_hash(record.password_hash):
        return ["password_hash is not a hash made by iotd hash-password"]
    return []


def is_password_hash(text: str) -> bool:
    """Whether `text` is a hash that this version can check."""
    from adapters.security import parse_hash  # only where there are users

    try:
        parse_hash(text)
    except ValueError:
        return False
    return True


def _check_names(
    key: Key, records: list[User | Rule], origin: Origin, problems: list[Problem]
) -> None:
    seen: set[str] = set()
    for index, record in enumerate(records):
        if isinstance(record, User):
            if record.name in seen:
                where = origin.within(index, "name")
                message = f"user {shown(record.name)} is there twice"
                problems.append(Problem(where, f"{key.path}[{index}].name", message))
            seen.add(record.name)


def allowed_by(hint: object) -> str:
    """What the type of a record's field allows, in words."""
    notes = getattr(hint, "__metadata__", ())
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(f'"{choice}"' for choice in get_args(hint))
    if any(isinstance(note, msgspec.Meta) and note.min_length for note in notes):
        return "text, not empty"
    return _KINDS[cast(type, hint)]


def _kind_of(found: object) -> str:
    """What kind of value it is, where the value itself may be a secret."""
    for kind, words in _FOUND_KINDS:
        if isinstance(found, kind):
            return words
    return "something else"
