"""From the flags of `iotd bench run` to what is to be run; every mistake is told here."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from adapters.bench import machine
from adapters.bench.runs import Options, Side, Target
from adapters.bench.workloads import LEVELS, SCENARIOS, Workload

DEFAULT_PORT: Final = 1883
DEFAULT_SECONDS: Final = 5.0

_SCHEMES: Final = ("tcp", "mqtt")
_LATER: Final = ("tls", "ssl", "mqtts", "ws", "wss", "unix")

# A run that sends a number of messages ends after so long, whatever has arrived.
_LIMIT_S: Final = 600.0


class ChoiceError(Exception):
    """A flag or an argument is wrong; the text says which and what to do."""


@dataclass(frozen=True)
class Choices:
    """The flags of `iotd bench run`; None is what the scenario says."""

    runs: int = 3
    seconds: float | None = None
    messages: int | None = None
    rate: float | None = None
    window: int | None = None
    publishers: int | None = None
    subscribers: int | None = None
    topics: int | None = None
    payload: int | None = None
    qos: int | None = None
    version: str | None = None
    connections: int | None = None
    connect_rate: float | None = None
    processes: int = 1
    stall: float = 5.0


class Plan(NamedTuple):
    """What is to be run: each workload on all of its sides, so many rounds."""

    workloads: list[list[Side]]
    runs: int
    options: Options
    plot: Path | None
    save_svg: Path | None


# What a flag is called in a workload, by the kind of scenario that knows it.
_OF_MESSAGES: Final = {
    "messages": "messages",
    "seconds": "seconds",
    "rate": "rate_per_s",
    "window": "window",
    "publishers": "publishers",
    "subscribers": "subscribers",
    "topics": "topics",
    "payload": "size_bytes",
    "qos": "qos",
}
_OF_STORMS: Final = {
    "connections": "connections",
    "connect_rate": "rate_per_s",
    "window": "window",
}
_OF_ALL: Final = ("runs", "version", "processes", "stall")


def plan_of(
    scenario: str,
    brokers: list[str],
    choices: Choices,
    plot: Path | None = None,
    save_svg: Path | None = None,
) -> Plan:
    """The plan. Raises `ChoiceError`."""
    _check_files(plot, save_svg)
    targets = [_target(text) for text in brokers]
    names = [target.name for target in targets]
    for name in names:
        if names.count(name) > 1:
            raise ChoiceError(f"two brokers are called {name}; name them: NAME=HOST:PORT")
    workloads = [_workload(name.strip(), choices) for name in scenario.split(",")]
    return Plan(
        [[Side(target.name, target, each) for target in targets] for each in workloads],
        choices.runs,
        Options(choices.processes, None, _LIMIT_S, choices.stall),
        plot,
        save_svg,
    )


def _check_files(plot: Path | None, save_svg: Path | None) -> None:
    """See that what is measured can also be drawn, before anything is measured."""
    if plot is not None and plot.suffix not in (".svg", ".png"):
        raise ChoiceError(f"--plot {plot}: the name ends with .svg or .png")
    if plot is not None and plot.suffix == ".png" and not importlib.util.find_spec("resvg_py"):
        raise ChoiceError(
            "a PNG needs the package resvg-py: pip install 'iotd[plot]', or draw an .svg"
        )
    if save_svg is not None and save_svg.suffix != ".svg":
        raise ChoiceError(f"--save-svg {save_svg}: the name ends with .svg")
    for path in (plot, save_svg):
        if path is not None and not path.absolute().parent.is_dir():
            raise ChoiceError(f"there is no folder {path.absolute().parent} for {path.name}")


def _target(text: str) -> Target:
    """A broker from `[NAME=]HOST[:PORT]` or `[NAME=]tcp://HOST[:PORT]`."""
    name, equals, address = text.partition("=")
    if not equals:
        name, address = "", text
    scheme, separator, rest = address.partition("://")
    if not separator:
        scheme, rest = "tcp", address
    if scheme in _LATER:
        raise ChoiceError(
            f"{text}: {scheme}:// cannot be measured yet; give the broker a plain TCP listener and "
            "use tcp://HOST:PORT"
        )
    if scheme not in _SCHEMES:
        raise ChoiceError(f"{text}: {scheme}:// is not known; use tcp://HOST:PORT")
    try:
        parts = urlsplit(f"tcp://{rest}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if not host or parts.path or parts.username is not None or (equals and not name):
        raise ChoiceError(
            f"{text!r} is no broker; write HOST, HOST:PORT or NAME=HOST:PORT, for example "
            f"localhost:{DEFAULT_PORT}"
        )
    port = DEFAULT_PORT if port is None else port
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    is_here = host == "localhost" or host.startswith("127.") or host == "::1"
    return Target(name or shown, host, port, machine.process_listening(port) if is_here else None)


def _workload(name: str, choices: Choices) -> Workload:
    """The scenario with what the flags say otherwise."""
    if name not in SCENARIOS:
        known = ", ".join(SCENARIOS)
        raise ChoiceError(f"there is no scenario {name!r}; there are {known}")
    workload = SCENARIOS[name]
    known_flags = _OF_STORMS if workload.is_storm else _OF_MESSAGES
    changes: dict[str, object] = {}
    for flag in (field.name for field in fields(choices)):
        value = getattr(choices, flag)
        if value is None or flag in _OF_ALL:
            continue
        if flag not in known_flags:
            shown = flag.replace("_", "-")
            own = ", ".join(f"--{each.replace('_', '-')}" for each in known_flags)
            raise ChoiceError(f"--{shown} means nothing to {name}; it knows {own}")
        changes[known_flags[flag]] = value
    if choices.version is not None:
        if choices.version not in LEVELS:
            raise ChoiceError(f"--version {choices.version}: use one of {', '.join(LEVELS)}")
        changes["level"] = LEVELS[choices.version]
    if choices.messages is not None and choices.seconds is not None:
        raise ChoiceError("--messages and --seconds exclude each other; give one of them")
    if choices.seconds is not None and not 0 < choices.seconds <= 86_400:
        raise ChoiceError(f"--seconds {choices.seconds:g}: use more than 0, and at most 86400")
    if choices.messages is None and not workload.is_storm:
        changes |= {"messages": 0, "seconds": choices.seconds or DEFAULT_SECONDS}
    workload = workload._replace(**changes)  # type: ignore[arg-type]  # by the tables above
    fault = workload.fault()
    if fault:
        raise ChoiceError(f"{name}: {fault}")
    _check_processes(workload, choices.processes)
    return workload


def _check_processes(workload: Workload, processes: int) -> None:
    """See that each process has something to do."""
    fields_of_parts = ["connections"] if workload.is_storm else ["subscribers"]
    if workload.mode == "pair":
        fields_of_parts = ["publishers", "subscribers"]
    for field in fields_of_parts:
        count = getattr(workload, field)
        if count < processes:
            raise ChoiceError(
                f"--processes {processes} is more than the {count} {field} of {workload.name}; "
                f"use at most {count}, or more --{field}"
            )
