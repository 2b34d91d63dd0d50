"""Every trace against both servers on loopback, in real time, side by side."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest

from conformance import Outcome, Result, Scenario, load_traces
from conformance._fragments import whole
from conformance._side_by_side import play_side_by_side
from tests.conformance.hosts import AsyncioHost, GeventHost, Host

SCENARIOS = [
    scenario
    for scenario in load_traces()
    if scenario.role == "server" and "fake clock" not in scenario.needs
]
# The two loops of asyncio drive the same adapter, which is never compiled: one build for each.
RUNTIMES = (
    pytest.param("asyncio", marks=pytest.mark.source),
    pytest.param("uvloop", marks=pytest.mark.wheel),
    pytest.param("gevent"),
)


def make_host(runtime: str) -> Host:
    if runtime == "gevent":
        return GeventHost()
    if runtime == "asyncio":
        return AsyncioHost("asyncio", asyncio.new_event_loop)
    if sys.platform == "win32":
        pytest.skip("platform: uvloop does not run here")
    import uvloop

    return AsyncioHost("uvloop", uvloop.new_event_loop)


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Callable[[str, str], Result]:
    """The result of a scenario on a runtime. The first question plays all that were asked for."""
    asked: dict[str, dict[str, Scenario]] = {}
    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.function is test_trace:
            scenario, runtime = (item.callspec.params[key] for key in ("scenario", "runtime"))
            assert isinstance(scenario, Scenario)
            asked.setdefault(str(runtime), {})[scenario.full_name] = scenario
    played: dict[str, dict[str, Result]] = {}

    def result(runtime: str, name: str) -> Result:
        if runtime not in played:
            host = make_host(runtime)
            scenarios = list(asked[runtime].values())
            done = play_side_by_side(scenarios, lambda one: host.play(one, whole), are_apart=True)
            played[runtime] = {one.scenario.full_name: one for one in done}
            host.close()
        return played[runtime][name]

    return result


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.full_name)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_trace(results: Callable[[str, str], Result], runtime: str, scenario: Scenario) -> None:
    result = results(runtime, scenario.full_name)
    assert result.outcome is Outcome.PASSED, result.report()
