"""The plugin, as a project with iotd and pytest installed meets it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import iotd.testing  # noqa: F401  loaded here, lest each run below has classes of its own

pytest_plugins = ["pytester"]

ROOT: Final = Path(__file__).resolve().parents[2]
BLOCK: Final = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


STRICT: Final = ("-W", "error", "--strict-markers")


@pytest.fixture(autouse=True)
def at_a_desk(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a build server pytest repeats errors whole in its summary: the runs here are on none."""
    for name in ("CI", "BUILD_NUMBER"):
        monkeypatch.delenv(name, raising=False)


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    """Run the tests that were written, in this process and without other plugins."""
    # Within this process the core is loaded already, and pytest tells that it cannot rewrite it.
    known = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
    others = ("-p", "no:asyncio", "-p", "no:hypothesispytest")
    return pytester.runpytest(*others, *options, *known)


def test_fixtures_serve_tests_that_are_no_coroutines(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        from iotd import Will
        from iotd.testing import MqttBroker, MqttClientFactory, MqttRig

        def test_broker(mqtt_broker: MqttBroker, mqtt_client: MqttClientFactory) -> None:
            mqtt_client("one").publish("a", "x", qos=1)
            assert [message.text for message in mqtt_broker.messages("a")] == ["x"]

        def test_rig(mqtt_rig: MqttRig) -> None:
            mqtt_rig.client("one", will=Will("state", "gone")).cut()
            mqtt_rig.expect("state", "gone")
    """)
    run(pytester, *STRICT).assert_outcomes(passed=2)


COROUTINES: Final = """
    import asyncio
    import pytest
    from iotd.testing import AsyncMqttClientFactory, AsyncMqttRig, MqttBroker

    {mark}
    async def test_broker(mqtt_broker: MqttBroker, mqtt_client: AsyncMqttClientFactory) -> None:
        client = await mqtt_client("one")
        await client.publish("a", "x", qos=1)
        assert (await mqtt_broker.expect_async("a")).text == "x"

    {mark}
    async def test_rig(mqtt_rig: AsyncMqttRig) -> None:
        await mqtt_rig.client("one")
        await asyncio.sleep(86_400)
        assert mqtt_rig.now >= 86_400

    class TestClass:
        {mark}
        async def test_in_a_class(self, mqtt_rig: AsyncMqttRig) -> None:
            await asyncio.sleep(86_400)

        {mark}
        @pytest.mark.parametrize("qos", [0, 1])
        async def test_broker_in_a_class(self, qos: int, mqtt_client) -> None:
            await (await mqtt_client()).publish("a", "x", qos)

    @pytest.fixture
    def anyio_backend() -> str:
        return "asyncio"
"""


LOOP_SCOPE: Final = "asyncio_default_fixture_loop_scope=function"  # else it warns


@pytest.mark.parametrize(
    ("mark", "options"),
    [
        ("# by itself", ["-p", "no:asyncio"]),
        ("@pytest.mark.anyio", ["-p", "no:asyncio"]),
        ("@pytest.mark.asyncio", ["-o", LOOP_SCOPE, "-o", "asyncio_mode=strict"]),
        ("# by itself", ["-o", LOOP_SCOPE, "-o", "asyncio_mode=auto"]),
    ],
    ids=["alone", "anyio", "pytest-asyncio", "pytest-asyncio by itself"],
)
def test_fixtures_serve_coroutines_whoever_runs_them(
    pytester: pytest.Pytester, mark: str, options: list[str]
) -> None:
    pytester.makepyfile(COROUTINES.format(mark=mark))
    # In a process of its own: plugins that run loops leave their policies behind.
    found = pytester.runpytest_subprocess(
        "-W", "error", "-W", "ignore::DeprecationWarning", *options
    )
    found.assert_outcomes(passed=5)


def test_options_come_by_marks_and_by_a_fixture(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import pytest
        from iotd import ConnectionRefused
        from mqtt_core.broker import Limits

        pytestmark = pytest.mark.mqtt(authenticate=lambda request: request.username == "ali")

        def test_one(mqtt_client) -> None:
            mqtt_client(username="ali")
            with pytest.raises(ConnectionRefused):
                mqtt_client()

        @pytest.mark.mqtt(authenticate=lambda request: True)
        def test_two(mqtt_rig) -> None:
            mqtt_rig.client("one")

        class TestThree:
            @pytest.fixture
            def mqtt_options(self, mqtt_options):
                return {**mqtt_options, "records": False}

            def test_three(self, mqtt_rig) -> None:
                assert mqtt_rig.client("one", username="ali").publish("a", qos=1).reason == 0x10
    """)
    run(pytester, *STRICT).assert_outcomes(passed=3)


@pytest.mark.parametrize(
    ("mark", "why"),
    [
        ("mqtt(limit=1)", "*unknown option of the mark: limit; it is mqtt(limits=*"),
        ("mqtt(1)", "*takes its options by name: mqtt(limits=...)*"),
    ],
)
def test_a_wrong_mark_is_told(pytester: pytest.Pytester, mark: str, why: str) -> None:
    pytester.makepyfile(f"""
        import pytest

        @pytest.mark.{mark}
        def test_one(mqtt_rig) -> None:
            pass
    """)
    found = run(pytester)
    found.assert_outcomes(errors=1)
    found.stdout.fnmatch_lines([why])


def test_a_failed_test_shows_what_the_broker_saw(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        def test_broker(mqtt_broker, mqtt_client) -> None:
            mqtt_client("one").publish("a", "x", qos=1)
            assert mqtt_broker.messages("b")

        def test_rig(mqtt_rig) -> None:
            mqtt_rig.client("two").publish("a", "x", qos=1)
            assert mqtt_rig.messages("b")
    """)
    found = run(pytester)
    found.assert_outcomes(failed=2)
    found.stdout.fnmatch_lines(
        [
            "*- MQTT broker -*",
            "* s  'a' QoS 1 'x'",
            "* s  client.connected one *",
            "*- MQTT rig -*",
            "* s  'a' QoS 1 'x'",
            "* s  two > PUBLISH 'a' QoS 1 #1 'x'",
        ]
    )
    found.stdout.no_fnmatch_line("*live log*")


def test_an_expectation_shows_it_once_and_no_frame_of_ours(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        def test_rig(mqtt_rig) -> None:
            mqtt_rig.client("two").publish("a", "x", qos=1)
            mqtt_rig.expect("b", within=60)

        async def test_coroutine(mqtt_rig) -> None:
            await mqtt_rig.expect("b", within=60)
    """)
    found = run(pytester)
    found.assert_outcomes(failed=2)
    text = found.stdout.str()
    assert text.count("two > PUBLISH") == 1
    assert "_world.py" not in text
    assert "base_events.py" not in text


def test_a_rig_that_is_not_used_after_all_leaves_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        import gc
        import pytest

        @pytest.fixture
        def broken(mqtt_rig) -> None:
            raise ZeroDivisionError

        async def test_one(broken) -> None:
            pass

        def test_nothing_is_left() -> None:
            gc.collect()
    """)
    run(pytester, *STRICT).assert_outcomes(errors=1, passed=1)


def test_other_coroutines_are_left_alone(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("""
        async def test_one() -> None:
            pass
    """)
    found = run(pytester)
    found.assert_outcomes(failed=1)
    found.stdout.fnmatch_lines(["*async def functions are not natively supported*"])


def test_the_plugin_is_registered_and_loads_next_to_nothing() -> None:
    """What pytest does not have itself comes with the first fixture."""
    program = (
        "import sys, pytest; before = set(sys.modules);"
        "import iotd.pytest_plugin; print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert loaded == ["iotd", "iotd._version", "iotd.pytest_plugin"]


def test_the_guide_is_true(pytester: pytest.Pytester) -> None:
    """All tests in docs/testing.md and README.md pass."""
    pages = [ROOT / "docs" / "testing.md", ROOT / "README.md"]
    found = [each for page in pages for each in BLOCK.findall(page.read_text(encoding="utf-8"))]
    blocks = [block for block in found if "def test_" in block]
    assert len(blocks) >= 7
    for number, block in enumerate(blocks):
        pytester.makepyfile(**{f"test_block_{number}": block})
    result = run(pytester, *STRICT)
    assert result.parseoutcomes().keys() == {"passed"}, result.stdout.str()
