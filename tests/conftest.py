"""What holds for every test: which build is under test, no silent skip, no clock in Hypothesis."""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# Set by the makefile: "pure" or "compiled". Unset, either will do, but never a mixture.
EXPECTED_BUILD = os.environ.get("IOTD_EXPECT_BUILD", "")
# Set where every peer (mosquitto, the Paho C client, node) is installed: a skip is then a failure,
# but for what the machine itself lacks: such a reason begins with this word.
REQUIRE_PEERS = os.environ.get("IOTD_REQUIRE_PEERS", "") not in ("", "0")
PLATFORM_REASON = "platform:"

# An example that is slow once, on a busy machine, is not wrong.
settings.register_profile("iotd", deadline=None, print_blob=True)
settings.register_profile("thorough", settings.get_profile("iotd"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "iotd"))


def _core_file() -> Path:
    spec = importlib.util.find_spec("mqtt_core")
    if spec is None or spec.origin is None:
        raise pytest.UsageError(
            "mqtt_core cannot be imported: run `make check`, or `pip install -e '.[gevent,test]'`"
        )
    return Path(spec.origin).resolve()


def _build_of(file: Path) -> str:
    return "pure" if file.suffix == ".py" else "compiled"


def pytest_configure() -> None:
    """Refuse to test another build than the one that was asked for."""
    # A shell ignores SIGINT for what it starts in the background, and programs inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    file = _core_file()
    if EXPECTED_BUILD and _build_of(file) != EXPECTED_BUILD:
        raise pytest.UsageError(
            f"the {EXPECTED_BUILD} build is to be tested, but the core comes from {file}: the "
            "compiled build needs a C compiler and the Python headers, and `make test-compiled`"
        )


def pytest_report_header() -> str:
    """Say which build is under test, for whoever reads the log."""
    file = _core_file()
    return f"core: {_build_of(file)}, from {file.parent}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is about the other build: `source` of the compiled, `wheel` of the pure."""
    foreign = "wheel" if _build_of(_core_file()) == "pure" else "source"
    left_out = [item for item in items if item.get_closest_marker(foreign)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_collection_finish() -> None:
    """Freeze what was collected: each server that starts would look at half a million objects."""
    gc.collect()
    gc.freeze()


def _is_forbidden_skip(report: pytest.TestReport | pytest.CollectReport) -> bool:
    if not (REQUIRE_PEERS and report.skipped) or hasattr(report, "wasxfail"):
        return False
    return PLATFORM_REASON not in report.longreprtext


def _fail_instead(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    report.outcome = "failed"
    report.longrepr = f"IOTD_REQUIRE_PEERS is set, so nothing may be skipped: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skipped test into a failed one where every peer has to be there."""
    report = yield
    if _is_forbidden_skip(report):
        _fail_instead(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself as a whole."""
    report = yield
    if _is_forbidden_skip(report):
        _fail_instead(report)
    return report
