"""`iotd serve`: from settings to a running broker."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

from adapters.operations import Log, open_log
from adapters.transport import ListenError, RecoveryError, listen_address
from iotd._version import __version__
from iotd.cli._config import load_or_tell
from iotd.cli._policy import policy_of
from iotd.cli._program import CannotRunError, build, event_loop, python
from iotd.cli._store import open_store
from iotd.config import Settings, printable
from mqtt_core.broker import Decision

# Descriptors that are not connections: standard streams, the poller, pipes, listeners.
_OTHER_DESCRIPTORS: Final = 32


class _Server(Protocol):
    """What both servers are to a program."""

    @property
    def addresses(self) -> list[str]: ...

    def auth_decided(self, token: int, decision: Decision) -> None: ...


class _Runtime(Protocol):
    """What the modules `adapters.asyncio_server` and `adapters.gevent_server` both offer."""

    @property
    def Server(self) -> Callable[..., _Server]: ...  # noqa: N802  it is a class

    @property
    def run(self) -> Callable[..., int]: ...


def serve(file: Path | None, flags: Mapping[str, object]) -> int:
    """Run a broker until a signal stops it; returns the exit code.

    Raises `CannotRunError` for what is wrong outside the configuration.
    """
    settings = load_or_tell(file, flags)
    if settings is None:
        return 2
    loop = event_loop(settings.runtime)
    log = open_log(sys.stderr, format=settings.log_format, level=settings.log_level)

    def on_fault(error: Exception) -> None:
        log.error("password.not_checked", error=error)

    policy, authenticator = policy_of(settings, on_fault)
    runtime = cast(_Runtime, import_module(f"adapters.{settings.runtime}_server"))
    engine = open_store(settings, log)
    server = runtime.Server(
        settings.listen_addresses,
        limits=settings.limits,
        policy=policy,
        engine=engine,
        on_fact=log.fact,
        authenticator=None if authenticator is None else authenticator.submit,
        version=f"iotd version {__version__}",
        tunes_collector=True,
    )
    if authenticator is not None:
        authenticator.start(server.auth_decided)
    try:
        code = runtime.run(
            server, on_ready=lambda: _tell_ready(log, settings, loop, server.addresses)
        )
    except (ListenError, RecoveryError) as error:
        if engine is not None:
            with suppress(OSError):  # where the server has closed it
                engine.close()
        raise CannotRunError(printable(str(error))) from None
    log.info("program.stopped", exit_code=code)
    return code


def _tell_ready(log: Log, settings: Settings, loop: str, listeners: list[str]) -> None:
    """The first lines of the log: what runs where, and what to know about it."""
    log.info(
        "program.started",
        version=__version__,
        build=build(),
        python=python(),
        loop=loop,
        listeners=listeners,
        pid=os.getpid(),
    )
    if settings.data_dir is None:
        detail = "sessions, queues and retained messages are lost at a restart"
        log.info("storage.in_memory", detail=detail)
    else:
        for url in settings.listen_addresses:
            level = listen_address(url).durability
            if level:
                log.info("listener.durability", listener=url, durability=level)
    for warning in settings.warnings:
        log.warning("configuration.warning", detail=warning)
    _tell_descriptors(log, settings)


def _tell_descriptors(log: Log, settings: Settings) -> None:
    """Say so if the system does not give as many descriptors as connections are allowed."""
    try:
        import resource
    except ImportError:  # not a POSIX system
        return
    available = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    wanted = settings.limits.max_connections + _OTHER_DESCRIPTORS
    if available != resource.RLIM_INFINITY and available < wanted:
        log.warning(
            "limit.descriptors",
            detail=f"max_connections is {settings.limits.max_connections}, but this process may "
            f"open {available} files; raise the limit (ulimit -n, LimitNOFILE) or lower the key",
        )
