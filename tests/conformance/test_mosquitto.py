"""Every trace against Debian's mosquitto: what differs is what docs/doctor.md says."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from conformance import Outcome, Result, Scenario, load_traces
from conformance._mosquitto import can_set, find_mosquitto
from conformance._scenario import VERSIONS
from conformance._side_by_side import play_side_by_side
from conformance.differences import FAILING, PASSING, PEER, load_differences, row_for
from conformance.run import play_to_mosquitto

SCENARIOS = [
    scenario
    for scenario in load_traces()
    if scenario.role == "server"
    and "fake clock" not in scenario.needs
    and all(map(can_set, scenario.settings))
]
DIFFERENCES = load_differences()

# Nothing of the core is under test: once is enough, beside the build that leaves more time.
pytestmark = pytest.mark.wheel


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Callable[[str], Result]:
    """The result of a scenario. The first question plays all that were asked for."""
    program = find_mosquitto()
    if program is None:
        pytest.skip("mosquitto is not installed: install the package `mosquitto`")
    version = subprocess.run([program, "-h"], capture_output=True, text=True, check=False).stdout
    if PEER.replace(" ", " version ") not in version:
        found = version.splitlines()[0] if version else "no version"
        pytest.skip(f"platform: the list of differences is about {PEER}, this is {found}")
    asked: list[Scenario] = []
    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.function is test_trace:
            scenario = item.callspec.params["scenario"]
            assert isinstance(scenario, Scenario)
            asked.append(scenario)
    done = play_side_by_side(asked, play_to_mosquitto, are_apart=True)
    played = {result.scenario.full_name: result for result in done}
    return played.__getitem__


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.full_name)
def test_trace(results: Callable[[str], Result], scenario: Scenario) -> None:
    result = results(scenario.full_name)
    row = row_for(DIFFERENCES, scenario.full_name)
    if result.outcome is Outcome.FAILED:
        assert row, f"not in the list of differences:\n{result.report()}"
        assert row.kind in FAILING, f"listed as {row.kind}, but:\n{result.report()}"
    elif result.choices:
        assert row, f"not in the list of differences: goes another way at lines {result.choices}"
        assert row.kind in PASSING, f"listed as {row.kind}, but it only goes another way"
    else:
        assert row is None, f"no longer differs, but is listed: {row}"


def test_the_list_names_scenarios_that_there_are() -> None:
    versions = {scenario.full_name: scenario.version for scenario in SCENARIOS}
    for row in DIFFERENCES:
        found = {version for name, version in versions.items() if row.covers(name)}
        assert found == {VERSIONS[row.version]}, row.scenario
