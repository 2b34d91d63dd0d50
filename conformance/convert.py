"""Makes a conformance case of a recording: what the broker chose is bound, the header is begun."""

from collections.abc import Sequence

from conformance._guess import guess_statements
from conformance.recording import Header, Occurrence, trace_text, without_credentials

_TO_DO = """\
# Begun from a recording{of}.
# To do: say the rule in `about`, name the statements that are broken when
# this fails, take out what is not about them, and see it pass: python -m conformance.run --core
# --traces FILE. The notation: docs/trace-format.md.
"""
_GUESS = """\
# Guessed from the packets; keep only what this proves:
# proves {ids}
"""


def conformance_case(occurrences: Sequence[Occurrence], header: Header, name: str) -> str:
    """The text of a trace file with one scenario. Credentials never get into it."""
    occurrences = without_credentials(occurrences)
    ids = guess_statements(occurrences)
    about = header.about or "TO DO: the rule that this shows."
    text = trace_text(occurrences, name, about)
    of = f" of {header.broker}, {header.began}" if header.broker else ""
    return _TO_DO.format(of=of) + (_GUESS.format(ids=ids) if ids else "") + "\n" + text
