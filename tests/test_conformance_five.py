"""The player and MQTT 5.0: what joins, subscribes and refusals send, take and complain about."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from conformance import Outcome, Result, Scope, parse_pattern, parse_trace, play
from conformance._link import ClientSide, Link

CLOSE = b""


class ScriptedLink(Link):
    def __init__(self, name: str, peer: ScriptedPeer) -> None:
        super().__init__(name)
        self.peer = peer

    def send(self, data: bytes) -> None:
        self.note_sent(data)
        assert self.peer.script, f"nothing more is expected: {data.hex(' ')}"
        expected, answers = self.peer.script.pop(0)
        assert data == expected, f"{data.hex(' ')} is not {expected.hex(' ')}"
        for answer in answers:
            if answer == CLOSE:
                self.is_closed = True
            else:
                self.note_received(answer)

    def cut(self) -> None:
        pass


class ScriptedPeer:
    """A broker that expects certain bytes and answers them with certain others."""

    title = "a script"

    def __init__(self, script: str, *, is_ours: bool) -> None:
        self.client: ClientSide | None = None
        self.is_ours = is_ours
        self.script: list[tuple[bytes, list[bytes]]] = []
        for line in script.strip().splitlines():
            sent, _, came = line.partition("=>")
            self.script.append((octets(sent), [octets(one) for one in came.split("/") if one]))

    def why_not(self, role: str, needs: Iterable[str], settings: dict[str, str]) -> str:
        return ""

    def connect(self, name: str) -> Link:
        return ScriptedLink(name, self)

    def wait_until(self, condition: Callable[[], bool], patience_s: float) -> bool:
        return condition()

    def let_the_end_arrive(self) -> None:
        pass

    def settle(self, links: Iterable[Link], is_timed: bool) -> None:
        pass

    def pass_time(self, seconds: float) -> None:
        pass

    def finish(self, scope: Scope) -> str:
        return ""


def octets(text: str) -> bytes:
    return CLOSE if text.strip() == "close" else parse_pattern(text).encode(Scope())


def played(steps: str, script: str, *, is_ours: bool = True) -> Result:
    (scenario,) = parse_trace(Path("area/x.trace"), f"version: 5.0\n== x\n{steps}\n")
    peer = ScriptedPeer(script, is_ours=is_ours)
    result = play(scenario, peer)
    assert not peer.script
    return result


HELLO = "10 rl s'MQTT' 05 02 u60 [] c'a' => 20 rl 00 00 [topic-alias-maximum 9]"


def test_what_joins_and_subscribes_are_in_5() -> None:
    result = played(
        """
        a joins
        b joins keep
        b subscribes t't' at 1 with [subscription-identifier 5]
        c joins resume with [session-expiry-interval 9]
        d joins 3.1.1 keep as c'old'
        d subscribes t't' at 2
        """,
        f"""
        {HELLO}
        10 rl s'MQTT' 05 00 u60 [session-expiry-interval 300] c'b' => 20 rl 00 00 []
        82 rl u60001 [subscription-identifier 5] t't' 01 => 90 rl u60001 [] 01
        10 rl s'MQTT' 05 00 u60 [session-expiry-interval 9] c'c' => 20 rl 01 00 []
        10 rl s'MQTT' 04 00 u60 c'old' => 20 02 00 00
        82 rl u60002 t't' 02 => 90 03 u60002 02
        """,
    )
    assert result.outcome is Outcome.PASSED, result.report()


@pytest.mark.parametrize(
    ("answer", "ours", "other"),
    [
        ("e0 rl 82 [] / close", "passed", "passed"),
        ("e0 01 82 / close", "passed", "passed"),
        ("e0 rl 82 [reason-string 'why'] / close", "passed", "passed"),
        ("e0 rl 81 [] / close", "failed", "passed, a choice"),
        ("close", "failed", "passed, a choice"),
        ("e0 rl 93 [] / close", "failed", "failed"),
        ("e0 rl 82 []", "failed", "failed"),
        ("20 rl 00 82 [] / close", "failed", "failed"),
        ("d0 00 / close", "failed", "failed"),
        ("d0 00 / e0 rl 82 [] / close", "failed", "failed"),
        ("e0 rl 82 [] / d0 00 / close", "failed", "failed"),
    ],
)
def test_a_refusal_after_connack_is_a_disconnect(answer: str, ours: str, other: str) -> None:
    for is_ours, expected in ((True, ours), (False, other)):
        result = played(
            "a joins\na > c1 00\na = refused 82 or 81",
            f"{HELLO}\nc1 00 => {answer}",
            is_ours=is_ours,
        )
        shown = result.outcome.value + (", a choice" if result.choices else "")
        assert shown == expected, result.report()


def test_a_refusal_before_connack_is_a_connack() -> None:
    for answer, expected in (
        ("20 rl 00 85 [] / close", Outcome.PASSED),
        ("20 rl 01 85 [] / close", Outcome.FAILED),
        ("e0 rl 85 [] / close", Outcome.FAILED),
        ("20 02 00 05 / close", Outcome.FAILED),
    ):
        result = played(
            "> 10 rl s'MQTT' 05 02 u60 [] c'a'\n= refused 85",
            f"10 rl s'MQTT' 05 02 u60 [] c'a' => {answer}",
        )
        assert result.outcome is expected, result.report()


def test_a_failed_refusal_says_what_was_wanted() -> None:
    result = played("a joins\na > c1 00\na = refused 81", f"{HELLO}\nc1 00 => e0 rl 82 [] / close")
    assert "expected  e0 rl 81 [..] | e0 01 81\n    got       DISCONNECT  e0 rl 82 []" in (
        result.report()
    )


def test_a_refusal_tells_a_branch() -> None:
    for answer, line in (("e0 rl 82 [] / close", 0), ("90 rl u1 [] 8f", 8)):
        result = played(
            """a joins
            a > 82 rl u1 [] s'a#' 00
            either
              a = refused 82
            or
              a < 90 rl u1 [..] 8f
            end""",
            f"{HELLO}\n82 rl u1 [] s'a#' 00 => {answer}",
            is_ours=False,
        )
        assert result.outcome is Outcome.PASSED, result.report()
        assert result.choices == [line] * bool(line)
