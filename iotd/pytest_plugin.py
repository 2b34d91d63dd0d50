"""The pytest plugin: `mqtt_broker`, `mqtt_client`, `mqtt_rig` and the mark `mqtt`.

docs/testing.md is its guide. It is loaded wherever iotd and pytest are installed, so it imports
nothing until a fixture is asked for.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

if TYPE_CHECKING:
    from iotd.testing import (
        AsyncMqttClientFactory,
        AsyncMqttRig,
        BrokerOptions,
        MqttBroker,
        MqttClientFactory,
        MqttRig,
    )

_FIXTURES: Final = ("mqtt_broker", "mqtt_client", "mqtt_rig")
_REPORTERS: Final = pytest.StashKey[list[tuple[str, Callable[[], str]]]]()
_MARK: Final = (
    "mqtt(limits=, authenticate=, authorize=, policy=, records=): options of the test's MQTT broker"
)


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", _MARK)


@pytest.fixture
def mqtt_options(request: pytest.FixtureRequest) -> BrokerOptions:
    """Options of the broker: those of the mark `mqtt`. Override it for a folder or a module."""
    from iotd.testing import BrokerOptions

    options: dict[str, Any] = {}
    for mark in reversed(list(request.node.iter_markers("mqtt"))):  # the nearest has the last word
        if mark.args:
            raise pytest.UsageError("the mark mqtt takes its options by name: mqtt(limits=...)")
        options |= mark.kwargs
    unknown = sorted(options.keys() - BrokerOptions.__optional_keys__)
    if unknown:
        raise pytest.UsageError(f"unknown option of the mark: {', '.join(unknown)}; it is {_MARK}")
    return cast("BrokerOptions", options)


@pytest.fixture
def mqtt_broker(
    request: pytest.FixtureRequest, mqtt_options: BrokerOptions
) -> Generator[MqttBroker, None, None]:
    """A broker on a free port of 127.0.0.1, for this test alone."""
    from iotd.testing import MqttBroker

    with MqttBroker(**mqtt_options) as broker:
        _show_on_failure(request, "MQTT broker", broker.report)
        yield broker


@pytest.fixture
def mqtt_client(
    request: pytest.FixtureRequest, mqtt_broker: MqttBroker
) -> Generator[MqttClientFactory | AsyncMqttClientFactory, None, None]:
    """Makes clients of `mqtt_broker`, closed at the end: `mqtt_client("sensor-1", will=...)`.

    They are blocking ones, and in a test that is a coroutine they are `iotd.Client`: there it is
    `await mqtt_client(...)`.
    """
    from iotd.testing import AsyncMqttClientFactory, MqttClientFactory

    if _is_coroutine(request):
        clients = AsyncMqttClientFactory(mqtt_broker.url)
        _wrap(request, clients.around)
        yield clients
        return
    blocking = MqttClientFactory(mqtt_broker.url)
    yield blocking
    blocking.close()


@pytest.fixture
def mqtt_rig(
    request: pytest.FixtureRequest, mqtt_options: BrokerOptions
) -> Generator[MqttRig | AsyncMqttRig, None, None]:
    """A broker, its clients and the network between them on a virtual clock.

    A `MqttRig`; in a test that is a coroutine an `AsyncMqttRig`, on whose loop the test runs.
    """
    from iotd.testing import AsyncMqttRig, MqttRig

    if _is_coroutine(request):
        rig = AsyncMqttRig(**mqtt_options)
        _show_on_failure(request, "MQTT rig", rig.report)
        _run_by(request, rig.run_test)
        yield rig
        rig.close()  # where the test was not run, because another fixture has failed
        return
    with MqttRig(**mqtt_options) as blocking:
        _show_on_failure(request, "MQTT rig", blocking.report)
        yield blocking


# What a failed test shows


def _show_on_failure(request: pytest.FixtureRequest, title: str, report: Callable[[], str]) -> None:
    request.node.stash.setdefault(_REPORTERS, []).append((title, report))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what the broker saw to the report of a test that has failed, unless it says so."""
    report = yield
    reporters = item.stash.get(_REPORTERS, ())
    if reporters and call.when == "call" and call.excinfo is not None and report.failed:
        from iotd.testing import NotSeen

        if not call.excinfo.errisinstance(NotSeen):
            report.sections += [(title, text()) for title, text in reporters]
    return report


# Tests that are coroutines


def _is_coroutine(request: pytest.FixtureRequest) -> bool:
    return isinstance(request.node, pytest.Function) and inspect.iscoroutinefunction(
        request.node.obj
    )


def _wrap(
    request: pytest.FixtureRequest,
    around: Callable[[Callable[[], Coroutine[Any, Any, object]]], Coroutine[Any, Any, object]],
) -> None:
    """Have a coroutine run within another, on whatever loop somebody runs the test."""
    test = request.node.obj

    @functools.wraps(test)
    async def wrapped(*args: Any, **named: Any) -> None:
        __tracebackhide__ = True
        await around(functools.partial(test, *args, **named))

    request.node.obj = wrapped


def _run_by(
    request: pytest.FixtureRequest,
    run: Callable[[Callable[[], Coroutine[Any, Any, object]]], object],
) -> None:
    """Have a coroutine run on a loop of ours, whoever else would have run it."""
    test = request.node.obj
    is_plain = type(request.node).runtest is pytest.Function.runtest

    @functools.wraps(test)
    def ran(*args: Any, **named: Any) -> Any:
        __tracebackhide__ = True
        run(functools.partial(test, *args, **named))
        return None if is_plain else _nothing()  # pytest-asyncio waits for a coroutine

    request.node.obj = ran


async def _nothing() -> None:
    """What is left to do once the test has run."""


@pytest.hookimpl
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    """Run a coroutine that asks for a broker, where no other plugin does so."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    if not any(name in pyfuncitem.fixturenames for name in _FIXTURES):
        return None
    import asyncio

    wanted = inspect.signature(pyfuncitem.obj).parameters
    named = {name: value for name, value in pyfuncitem.funcargs.items() if name in wanted}
    with asyncio.Runner() as runner:
        runner.run(pyfuncitem.obj(**named))
    return True
