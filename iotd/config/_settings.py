"""`Settings`: one checked configuration, with where each value came from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast, final

from iotd.config._check import check
from iotd.config._keys import KEYS, Value
from iotd.config._layers import Given, read_environment, read_file, read_flags
from iotd.config._memory import Part, worst_case
from iotd.config._origin import DEFAULT, LAYERS, Origin
from iotd.config._problems import ConfigError, Problem, did_you_mean, shown
from iotd.config._records import Rule, User
from mqtt_core.broker import Limits, LimitValue


@final
class Settings:
    """Every value of one configuration that holds together; made by `load`."""

    __slots__ = ("limits", "origins", "values", "warnings")

    def __init__(
        self,
        values: Mapping[str, Value],
        origins: Mapping[str, Origin],
        warnings: tuple[str, ...] = (),
    ) -> None:
        self.values: Final = values  # key path -> value, for every key there is
        self.origins: Final = origins  # key path -> where that value came from
        self.warnings: Final = warnings  # what works and should be looked at nevertheless
        limits = {key.name: values[path] for path, key in KEYS.items() if key.limit is not None}
        self.limits: Final = Limits(**cast("dict[str, LimitValue]", limits))

    @property
    def listen_addresses(self) -> tuple[str, ...]:
        """Where to accept connections, as URLs."""
        return cast("tuple[str, ...]", self.values["server.listen_addresses"])

    @property
    def runtime(self) -> str:
        """`asyncio` or `gevent`."""
        return cast(str, self.values["server.runtime"])

    @property
    def users(self) -> tuple[User, ...]:
        """Who may log in."""
        return cast("tuple[User, ...]", self.values["auth.users"])

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Who may do what; empty: everything is allowed."""
        return cast("tuple[Rule, ...]", self.values["auth.rules"])

    @property
    def allow_anonymous(self) -> bool:
        """Whether a client may connect without a user name."""
        return cast(bool, self.values["auth.allow_anonymous"])

    @property
    def scram_secret(self) -> str:
        """What answers to unknown names are made from; empty: new at each start."""
        return cast(str, self.values["auth.scram_secret"])

    @property
    def data_dir(self) -> Path | None:
        """Folder of the durable store; None: all state is in memory."""
        if self.values["storage.in_memory"]:
            return None
        return Path(cast(str, self.values["storage.data_dir"]))

    @property
    def durability(self) -> str:
        """`fsync`, `os` or `memory`."""
        return cast(str, self.values["storage.durability"])

    @property
    def may_start_empty(self) -> bool:
        """Whether to go on without a store that cannot be read."""
        return cast(bool, self.values["storage.start_empty"])

    @property
    def max_store_bytes(self) -> int:
        """Bytes of the store on disk; 0 for no limit."""
        return cast(int, self.values["storage.max_bytes"])

    @property
    def max_stored_messages(self) -> int:
        """Messages in the store, counted for each session; 0 for no limit."""
        return cast(int, self.values["storage.max_messages"])

    @property
    def log_format(self) -> str:
        """`human` or `json`."""
        return cast(str, self.values["log.format"])

    @property
    def log_level(self) -> str:
        """`debug`, `info`, `warning` or `error`."""
        return cast(str, self.values["log.level"])

    def worst_case(self) -> list[tuple[Part, int]]:
        """The most memory in bytes that the limits allow, part by part."""
        return worst_case(self.limits, has_rules=bool(self.rules))


def load(
    file: Path | str | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    """Flags above environment above file above defaults.

    `environment` is the process's own unless given. `flags` maps key paths to values as a file
    would hold them; `None` there means not given.

    Raises `ConfigError` with every problem at once, and `OSError` if the file cannot be read.
    """
    given: list[Given] = []
    problems: list[Problem] = []
    warnings: list[str] = []
    if file is not None:
        content = Path(file).read_bytes()
        found, problems = read_file(str(file), content)
        given += found
    variables, faults, notes = read_environment(os.environ if environment is None else environment)
    given += variables
    given += read_flags(flags or {})
    problems += faults
    warnings += notes

    values: dict[str, Value] = {path: key.default for path, key in KEYS.items()}
    origins: dict[str, Origin] = dict.fromkeys(KEYS, DEFAULT)
    for item in given:
        value = check(item, problems)
        if value is not None:
            values[item.key.path] = value
            origins[item.key.path] = item.origin
    if origins["auth.allow_anonymous"] is DEFAULT:
        values["auth.allow_anonymous"] = not values["auth.users"]
    _settle_storage(values, origins, problems)
    touched = {item.key.path for item in given}
    problems += _contradictions(values, origins, touched)
    if problems:
        raise ConfigError(problems)
    warnings += _plain_passwords(values, origins)
    warnings += _levels_in_memory(values, origins)
    return Settings(values, origins, tuple(warnings))


def _contradictions(
    values: Mapping[str, Value], origins: Mapping[str, Origin], touched: set[str]
) -> list[Problem]:
    """What no single value shows. Keys that are wrong themselves have their default here."""
    problems: list[Problem] = []

    def problem(path: str, message: str) -> None:
        problems.append(Problem(origins[path], path, message))

    redirects = values["mqtt5.server_redirect"] != KEYS["mqtt5.server_redirect"].default
    if redirects and not values["mqtt5.server_reference"]:
        message = "needs mqtt5.server_reference, which says where clients are sent"
        problem("mqtt5.server_redirect", message)
    users_unknown = "auth.users" in touched and origins["auth.users"] is DEFAULT
    if users_unknown:
        return problems
    names = {user.name for user in cast("tuple[User, ...]", values["auth.users"])}
    for index, rule in enumerate(cast("tuple[Rule, ...]", values["auth.rules"])):
        if rule.user and rule.user not in names:
            where = origins["auth.rules"].within(index, "user")
            message = f"there is no user {shown(rule.user)}{did_you_mean(rule.user, names)}"
            problems.append(Problem(where, f"auth.rules[{index}].user", message))
    if not values["auth.allow_anonymous"] and not values["auth.users"]:
        problem(
            "auth.allow_anonymous",
            "is false and there are no [[auth.users]], so nobody could connect; add users",
        )
    if values["auth.allow_anonymous"] and origins["auth.allow_anonymous"] is DEFAULT:
        from adapters.transport import listen_address  # loads sockets

        for url in cast("tuple[str, ...]", values["server.listen_addresses"]):
            if not listen_address(url).is_loopback:
                problem(
                    "server.listen_addresses",
                    f"{url} can be reached from other machines, and everyone there could connect "
                    "without a password; add [[auth.users]], or state that this is wanted: "
                    "allow_anonymous = true under [auth]",
                )
    return problems


def _settle_storage(
    values: dict[str, Value], origins: dict[str, Origin], problems: list[Problem]
) -> None:
    """In memory or in a folder: of two layers the stronger decides, one layer must not say both."""
    where = origins["storage.in_memory"]
    folder = origins["storage.data_dir"]
    if not values["storage.in_memory"] or folder is DEFAULT:
        return
    if folder.layer == where.layer:
        message = "contradicts storage.in_memory = true; keep one of them"
        problems.append(Problem(folder, "storage.data_dir", message))
    elif LAYERS.index(folder.layer) > LAYERS.index(where.layer):
        values["storage.in_memory"] = False
        origins["storage.in_memory"] = folder


def _levels_in_memory(values: Mapping[str, Value], origins: Mapping[str, Origin]) -> list[str]:
    if not values["storage.in_memory"]:
        return []
    from adapters.transport import listen_address  # loads sockets

    urls = cast("tuple[str, ...]", values["server.listen_addresses"])
    where = origins["server.listen_addresses"]
    return [
        f"{where}: {url}: with storage.in_memory nothing survives, whatever durability is asked for"
        for url in urls
        if listen_address(url).durability
    ]


def _plain_passwords(values: Mapping[str, Value], origins: Mapping[str, Origin]) -> list[str]:
    users = cast("tuple[User, ...]", values["auth.users"])
    plain = [user.name for user in users if user.password]
    if not plain:
        return []
    names = ", ".join(plain[:3]) + (f" and {len(plain) - 3} more" if len(plain) > 3 else "")
    where = origins["auth.users"]
    return [f"{where}: passwords in plain text for {names}; make hashes: iotd hash-password"]
