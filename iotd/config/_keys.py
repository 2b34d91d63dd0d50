"""Every key of the configuration: name, default, what is allowed, and how text becomes a value.

The keys that limit something come from `mqtt_core.broker.LIMITS`; here are only those that are
no limit. Parser, reference page, example file and error messages are all made from `KEYS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast, final

import msgspec

from iotd.config._problems import shown
from iotd.config._records import Rule, User
from mqtt_core.broker import LEVELS, LIMITS, Limit

Value = bool | int | float | str | tuple[str, ...] | tuple[User, ...] | tuple[Rule, ...]

SECTIONS: Final = {
    "server": "Listening, connections and their limits.",
    "session": "Sessions, their queues and how long they are kept.",
    "router": "Subscriptions, retained messages and `$SYS`.",
    "mqtt5": "What MQTT 5.0 lets a broker choose, and its limits.",
    "auth": "Who may connect and what they may do.",
    "storage": "Where state lives.",
    "log": "What is logged and in which form.",
}


class NotAllowedError(ValueError):
    """A value that its key does not take; the message says what it does take."""


@final
class Key:
    """One key of the configuration."""

    __slots__ = (
        "_accept",
        "aliases",
        "allowed",
        "default",
        "default_text",
        "description",
        "flags",
        "is_secret",
        "limit",
        "name",
        "record",
        "section",
    )

    def __init__(
        self,
        section: str,
        name: str,
        default: Value,
        allowed: str,
        description: str,
        *,
        accept: Callable[[object], Value],
        default_text: str = "",
        aliases: tuple[str, ...] = (),
        flags: tuple[str, ...] = (),
        limit: Limit | None = None,
        record: type[User] | type[Rule] | None = None,
        is_secret: bool = False,
    ) -> None:
        self.section: Final = section
        self.name: Final = name
        self.default: Final = default
        self.default_text: Final = default_text  # where the default depends on other keys
        self.allowed: Final = allowed
        self.description: Final = description
        self.aliases: Final = aliases
        self.flags: Final = flags
        self.limit: Final = limit
        self.record: Final = record
        self.is_secret: Final = is_secret  # its value is never printed
        self._accept: Final = accept

    @property
    def path(self) -> str:
        """`section.name`, as errors and tables show it."""
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable that sets this key."""
        return variable_of(self.section, self.name)

    def accept(self, found: object) -> Value:
        """`found` as a value of this key, which holds no records. Raises `NotAllowedError`."""
        return self._accept(found)

    def from_text(self, text: str) -> object:
        """What `text` from the environment means, for `accept` to judge.

        Lists are separated by commas or written as JSON, lists of tables are JSON.
        """
        try:
            text.encode()
        except UnicodeEncodeError:
            raise NotAllowedError("is not UTF-8 text") from None
        if self.record is not None or (isinstance(self.default, tuple) and text[:1] == "["):
            try:
                return cast(object, msgspec.json.decode(text))
            except msgspec.DecodeError as error:
                raise NotAllowedError(f"is not valid JSON ({error})") from None
        if isinstance(self.default, tuple):
            return [item.strip() for item in text.split(",") if item.strip()]
        if isinstance(self.default, bool):
            return _BOOLEANS.get(text.strip().lower(), text)
        if isinstance(self.default, (int, float)):
            return _number(text)
        return text


_BOOLEANS: Final = {
    "true": True, "yes": True, "on": True, "1": True,
    "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip


def variable_of(section: str, name: str) -> str:
    """The name of the environment variable for a key."""
    return f"IOTD_{section}_{name}".upper()


def _number(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _accept_limit(limit: Limit) -> Callable[[object], Value]:
    def accept(found: object) -> Value:
        if isinstance(found, (bool, int, float, str)) and limit.accepts(found):
            return float(found) if type(limit.default) is float else found
        raise NotAllowedError(limit.allowed())

    return accept


def _accept_boolean(found: object) -> Value:
    if isinstance(found, bool):
        return found
    raise NotAllowedError("true or false")


def _accept_secret(found: object) -> Value:
    if isinstance(found, str) and (not found or len(found) >= _SECRET_LENGTH):
        return found
    raise NotAllowedError(_SECRET)


def _accept_folder(found: object) -> Value:
    if isinstance(found, str) and found and "\0" not in found:
        return found
    raise NotAllowedError(_FOLDER)


def _accept_amount(found: object) -> Value:
    if type(found) is int and 0 <= found <= _LARGEST_AMOUNT:
        return found
    raise NotAllowedError(_AMOUNT)


def _accept_choice(*choices: str) -> Callable[[object], Value]:
    def accept(found: object) -> Value:
        if isinstance(found, str) and found in choices:
            return found
        raise NotAllowedError(_one_of(*choices))

    return accept


def _accept_addresses(found: object) -> Value:
    if not isinstance(found, list) or not found or not all(isinstance(item, str) for item in found):
        raise NotAllowedError(_ADDRESSES)
    from adapters.transport import ListenError, listen_address  # loads sockets

    seen: dict[str, None] = {}
    faults: list[str] = []
    for item in found:
        try:
            seen[listen_address(item).url] = None
        except ListenError as error:
            faults.append(f"{shown(item)}: {error.message}")
    if faults:
        raise NotAllowedError(f"{_ADDRESSES} ({'; '.join(faults)})")
    return tuple(seen)


def _accept_record(found: object) -> Value:
    raise AssertionError(f"records are checked field by field, not as {type(found).__name__}")


def _one_of(*choices: str) -> str:
    return "one of " + ", ".join(f'"{choice}"' for choice in choices)


_ADDRESSES: Final = 'a list of addresses such as "tcp://127.0.0.1:1883"'
_SECRET_LENGTH: Final = 16
_SECRET: Final = f"text of {_SECRET_LENGTH} characters or more, or empty"
_RUNTIMES: Final = ("asyncio", "gevent")
_FORMATS: Final = ("human", "json")
_LEVELS: Final = ("debug", "info", "warning", "error")
_DURABILITIES: Final = tuple(LEVELS)
_FOLDER: Final = "the path of a folder"
_LARGEST_AMOUNT: Final = 2**53
_AMOUNT: Final = f"a whole number from 0 to {_LARGEST_AMOUNT:,}"

_ALIASES: Final = {"max_packet_size_bytes": ("max_packet_size",)}

_PLAIN_KEYS: Final = (
    Key(
        "server",
        "listen_addresses",
        ("tcp://127.0.0.1:1883",),
        _ADDRESSES,
        "Where to accept connections: `tcp://HOST:PORT`, several if wanted, IPv6 hosts in "
        "brackets. Other machines reach the broker only at an address that is not loopback, such "
        "as `tcp://0.0.0.0:1883`; port 0 takes any free port. With `?durability=LEVEL` behind it, "
        "such as `tcp://127.0.0.1:1884?durability=os`, an address has a level of its own in place "
        "of `storage.durability`.",
        accept=_accept_addresses,
        flags=("--listen",),
    ),
    Key(
        "server",
        "runtime",
        "asyncio",
        _one_of(*_RUNTIMES),
        "What drives sockets and timers. `asyncio` runs on uvloop where it is installed; `gevent` "
        "needs the extra `iotd[gevent]`.",
        accept=_accept_choice(*_RUNTIMES),
        flags=("--runtime",),
    ),
    Key(
        "auth",
        "allow_anonymous",
        True,
        "true or false",
        "Whether clients may connect without a user name. To accept them at an address that other "
        "machines reach, `true` must be written out.",
        accept=_accept_boolean,
        default_text="`true` while there are no users, else `false`",
    ),
    Key(
        "auth",
        "users",
        (),
        "a list of tables, each with name and password_hash",
        "Who may log in.",
        accept=_accept_record,
        record=User,
    ),
    Key(
        "auth",
        "rules",
        (),
        "a list of tables, each with topic",
        "Who may publish and subscribe where. Without rules everything is allowed; with rules the "
        "first that fits decides, and what none fits is denied.",
        accept=_accept_record,
        record=Rule,
    ),
    Key(
        "auth",
        "scram_secret",
        "",
        _SECRET,
        "Random text that the answers to unknown names are made from (SCRAM-SHA-256). Empty: new "
        "at each start, so that who compares answers from before and after a restart can tell "
        "which names exist.",
        accept=_accept_secret,
        is_secret=True,
    ),
    Key(
        "storage",
        "in_memory",
        False,
        "true or false",
        "Keep all state in memory: nothing is written, nothing survives the program's end.",
        accept=_accept_boolean,
        flags=("--in-memory",),
    ),
    Key(
        "storage",
        "data_dir",
        "iotd-data",
        _FOLDER,
        "Folder of the durable store, made where there is none. One broker at a time can use it.",
        accept=_accept_folder,
        flags=("--data-dir",),
    ),
    Key(
        "storage",
        "durability",
        "fsync",
        _one_of(*_DURABILITIES),
        "What an acknowledged message survives: `fsync` a loss of power; `os` the end of the "
        "program by whatever cause, but not that of the machine; `memory` the end of the program "
        "in good order, since nothing waits for the disk. A listener may have a level of its own, "
        "see `server.listen_addresses`.",
        accept=_accept_choice(*_DURABILITIES),
    ),
    Key(
        "storage",
        "start_empty",
        False,
        "true or false",
        "Whether to start with nothing if the store cannot be read. In either case it is set "
        "aside; without this the program says so and ends.",
        accept=_accept_boolean,
    ),
    Key(
        "storage",
        "max_bytes",
        8 * 1024**3,
        _AMOUNT,
        "Bytes of the store on disk, 0 for as many as there are. Above that, what would add to it "
        "is refused: a publisher of MQTT 5.0 gets 0x97 (quota exceeded), an older one is "
        "disconnected without an acknowledgement.",
        accept=_accept_amount,
    ),
    Key(
        "storage",
        "max_messages",
        10_000_000,
        _AMOUNT,
        "Messages in the store, counted once for each session that they wait for, 0 for any "
        "number. Above that the same holds as for `max_bytes`.",
        accept=_accept_amount,
    ),
    Key(
        "log",
        "format",
        "human",
        _one_of(*_FORMATS),
        "Form of the log lines: `human`, or `json` with one object on each line.",
        accept=_accept_choice(*_FORMATS),
        flags=("--log-format",),
    ),
    Key(
        "log",
        "level",
        "info",
        _one_of(*_LEVELS),
        "Least severity that is logged.",
        accept=_accept_choice(*_LEVELS),
        flags=("--log-level",),
    ),
)


def _limit_key(limit: Limit) -> Key:
    return Key(
        limit.section,
        limit.name,
        limit.default,
        limit.allowed(),
        limit.description,
        accept=_accept_limit(limit),
        aliases=_ALIASES.get(limit.name, ()),
        limit=limit,
    )


def _all_keys() -> dict[str, Key]:
    keys = (*_PLAIN_KEYS, *(_limit_key(limit) for limit in LIMITS))
    order = list(SECTIONS)
    return {key.path: key for key in sorted(keys, key=lambda key: order.index(key.section))}


KEYS: Final[dict[str, Key]] = _all_keys()
"""Every key by its path, section by section."""

NAMES: Final[dict[str, Key]] = {
    f"{key.section}.{name}": key for key in KEYS.values() for name in (key.name, *key.aliases)
}
"""Every key by every path it may be written as."""

VARIABLES: Final[dict[str, Key]] = {
    variable_of(key.section, name): key
    for key in KEYS.values()
    for name in (key.name, *key.aliases)
}
"""Every key by the environment variables that set it."""
