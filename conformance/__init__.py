"""Proof that an MQTT broker or client obeys the standard: traces, their runner, and the statements.

A trace is readable text: what is sent, what must come back, how time passes (docs/trace-format.md).
`python -m conformance.run` plays traces, and `python -m conformance.table` shows which numbered
statement of the standard is proved by what. Behind `iotd doctor` are `doctor`, `findings` and
`report`, behind `iotd trace` `record`, `recording`, `diagram`, `replay` and `convert`.
"""

from conformance._items import Scope
from conformance._notation import Pattern, parse_pattern
from conformance._player import Outcome, Result, play
from conformance._scenario import Scenario, TraceError
from conformance._statements import Statement, load_statements
from conformance._trace import load_traces, parse_trace

__all__ = [
    "Outcome",
    "Pattern",
    "Result",
    "Scenario",
    "Scope",
    "Statement",
    "TraceError",
    "load_statements",
    "load_traces",
    "parse_pattern",
    "parse_trace",
    "play",
]
