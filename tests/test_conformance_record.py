"""The recorder: what passes through it comes out as a trace that replays."""

from __future__ import annotations

import asyncio
from pathlib import Path

from adapters.asyncio_server import Server
from conformance import Outcome, Scope, parse_pattern, parse_trace
from conformance._core_peer import play_broker
from conformance.record import RecordingProxy
from conformance.recording import (
    CAME,
    CLOSED,
    CUT,
    SENT,
    Occurrence,
    Recorder,
    Redaction,
    trace_text,
)
from mqtt_core.broker import AllowAll


def packets(*hexadecimal: str) -> list[bytes]:
    return [bytes.fromhex(one) for one in hexadecimal]


CONNECT, CONNACK, SUBSCRIBE, SUBACK = packets(
    "100d00044d515454040200 3c000161", "20020000", "820600010001 7402", "9003000102"
)


def recorded(*steps: tuple[float, int, str, bytes]) -> list[str]:
    text = trace_text(occurrences(*steps), "name", "What it is.", "v3: MQTT-7.0.0-2")
    return text.splitlines()


def occurrences(*steps: tuple[float, int, str, bytes]) -> list[Occurrence]:
    found: list[Occurrence] = []
    recorder = Recorder(found.append, Redaction())
    for at_s, connection, what, data in steps:
        if what in (CUT, CLOSED):
            recorder.add_end(at_s, connection, what)
        else:
            recorder.add_bytes(at_s, connection, what, data)
    return found


def test_packets_become_lines() -> None:
    lines = recorded(
        (0.0, 1, SENT, CONNECT[:3]),
        (0.0, 1, SENT, CONNECT[3:] + SUBSCRIBE),
        (0.1, 1, CAME, CONNACK + SUBACK),
        (1.6, 1, SENT, b"\xe0\0"),
        (1.7, 1, CUT, b""),
        (1.8, 1, CAME, b"\xd0\0"),
    )
    assert lines == [
        "== name",
        "about: What it is.",
        "proves v3: MQTT-7.0.0-2",
        "a > 10 rl s'MQTT' 04 02 u60 c'a'",
        "a > 82 rl u1 t't' 02",
        "a < 20 02 00 00",
        "a < 90 rl u1 02",
        "@ 1.5s",
        "a > e0 00",
        "a ! cut",
    ]


def test_what_the_broker_chose_becomes_a_variable() -> None:
    publish, again, pubrel = packets("34060001740007 78", "3c060001740007 78", "62020007")
    pubrec, pubcomp = packets("50020007", "70020007")
    lines = recorded(
        (0.0, 1, SENT, CONNECT),
        (0.0, 1, CAME, CONNACK + publish),
        (0.0, 1, CLOSED, b""),
        (0.0, 2, SENT, CONNECT),
        (0.0, 2, CAME, CONNACK + again),
        (0.0, 2, SENT, pubrec),
        (0.0, 2, CAME, pubrel),
        (0.0, 2, SENT, pubcomp),
        (0.0, 2, CAME, publish),
    )
    assert lines[4:] == [
        "a < 20 02 00 00",
        "a < 34 rl t't' $p1 'x'",
        "a = closed",
        "a > 10 rl s'MQTT' 04 02 u60 c'a'",
        "a < 20 02 00 00",
        "a < 3c rl t't' $p1 'x'",
        "a > 50 02 $p1",
        "a < 62 02 $p1",
        "a > 70 02 $p1",
        "a < 34 rl t't' $p2 'x'",
    ]


def test_answers_and_deliveries_that_come_together_have_no_order() -> None:
    publish, puback = packets("300400017478", "40020009")
    lines = recorded((0.0, 1, SENT, CONNECT), (0.0, 1, CAME, CONNACK + puback + publish + publish))
    assert lines[4:] == [
        "a < 20 02 00 00",
        "any order",
        "  a < 40 02 u9",
        "  a < 30 rl t't' 'x'",
        "  a < 30 rl t't' 'x'",
        "end",
    ]


def test_a_password_is_replaced() -> None:
    connect = bytes.fromhex("101700044d51545404c2003c0001610001750005") + b"s3cr\xff"
    text = "\n".join(recorded((0.0, 1, SENT, connect)))
    assert "c'a' s'redacted' s'redacted'" in text
    assert "s3cr" not in text


def test_what_was_said_to_authenticate_is_replaced() -> None:
    method = "authentication-method 'SCRAM-SHA-256'"
    texts = [f"{method}, authentication-data {data}" for data in ("'n,,it\\'s'", "(00 ff 73)")]
    lines = recorded(
        (0.0, 1, SENT, encoded(f"10 rl s'MQTT' 05 02 u60 [{texts[0]}] c'a'")),
        (0.0, 1, CAME, encoded(f"f0 rl 18 [{texts[1]}]")),
        (0.0, 1, SENT, encoded(f"f0 rl 18 [{texts[1]}, user-property 'a' 'b']")),
        (0.0, 1, CAME, encoded(f"20 rl 00 00 [{texts[0]}]")),
    )
    said = f"{method}, authentication-data 'redacted'"
    assert lines[4:] == [
        f"a > 10 rl s'MQTT' 05 02 u60 [{said}] c'a'",
        "a < f0 rl 18 [..]",
        f"a > f0 rl 18 [{said}, user-property 'a' 'b']",
        "a < 20 rl 00 00 [..]",
    ]


def test_connections_are_told_apart() -> None:
    (other,) = packets("101100044d515454040200 3c0005782f792d37")
    (nobody,) = packets("100c00044d515454040200 3c0000")
    lines = recorded(
        (0.0, 1, SENT, CONNECT),
        (0.0, 2, SENT, CONNECT),  # takes over
        (0.0, 1, CLOSED, b""),
        (0.0, 3, SENT, other),
        (0.0, 4, SENT, nobody),
        (0.0, 5, CUT, b""),  # never said anything
        (0.0, 6, SENT, b"\xff\xff"),
        (0.0, 6, CUT, b""),
        (0.0, 6, CUT, b""),
    )
    assert [line.split(" ")[0] for line in lines[3:]] == [
        "a",
        "a-again-1",
        "a",
        "x-y-7",
        "anonymous-1",
        "anonymous-2",
        "anonymous-2",
    ]
    assert parse_trace(Path("area/x.trace"), "\n".join(lines))


def encoded(text: str) -> bytes:
    return parse_pattern(text).encode(Scope())


def test_what_a_broker_of_5_may_do_otherwise_is_left_open() -> None:
    connect = "10 rl s'MQTT' 05 c2 u60 [session-expiry-interval 9] c'a' s'u' s'secret'"
    connack = "20 rl 00 00 [assigned-client-identifier 'x', receive-maximum 20]"
    lines = recorded(
        (0.0, 1, SENT, encoded(connect)),
        (0.0, 1, CAME, encoded(connack)),
        (0.0, 1, SENT, encoded("82 rl u1 [subscription-identifier 5] t't' 09")),
        (0.0, 1, CAME, encoded("90 rl u1 [reason-string 'why'] 01")),
        (0.0, 1, SENT, encoded("32 rl t't' u1 [] 'x' ; 34 rl t't' u2 [] 'y'")),
        (0.0, 1, CAME, encoded("40 rl u1 10 ; 50 02 u2")),
        (0.0, 1, SENT, encoded("62 02 u2")),
        (0.0, 1, CAME, encoded("70 02 u2")),
        (0.0, 1, CAME, encoded("32 rl t't' u7 [message-expiry-interval 9] 'z'")),
        (0.0, 1, SENT, encoded("40 rl u7 87 [reason-string 'no']")),
        (0.0, 1, CAME, encoded("b0 rl u3 [] 11")),
        (0.0, 1, CAME, encoded("e0 rl 8e []")),
        (0.0, 1, CLOSED, b""),
    )
    assert lines == [
        "== name",
        "version: 5.0",
        "about: What it is.",
        "proves v3: MQTT-7.0.0-2",
        "a > 10 rl s'MQTT' 05 c2 u60 [session-expiry-interval 9] c'a' s'redacted' s'redacted'",
        "a < 20 rl 00 00 [..]",
        "a > 82 rl u1 [subscription-identifier 5] t't' 09",
        "a < 90 rl u1 [..] 01",
        "a > 32 rl t't' u1 [] 'x'",
        "a > 34 rl t't' u2 [] 'y'",
        "a < 40 rl u1 (r10 | r00)",
        "a < 50 rl u2 r00",
        "a > 62 02 u2",
        "any order",
        "  a < 70 rl u2 r00",
        "  a < 32 rl t't' $p1 [message-expiry-interval 7-9] 'z'",
        "end",
        "a > 40 rl $p1 87 [reason-string 'no']",
        "a < b0 rl u3 [..] 11",
        "a < e0 rl r8e",
        "a = closed",
    ]
    assert parse_trace(Path("area/x.trace"), "\n".join(lines))


def test_a_broker_may_use_aliases_where_a_client_takes_them() -> None:
    lines = recorded(
        (0.0, 1, SENT, encoded("10 rl s'MQTT' 05 02 u60 [topic-alias-maximum 5] c'a'")),
        (0.0, 1, CAME, encoded("20 rl 00 00 []")),
        (0.0, 1, CAME, encoded("30 rl t't' [] 'x' ; 32 rl t't' u1 [content-type 'c'] 'y'")),
    )
    plain, with_type = lines[7:9]
    assert plain == "  a < 30 rl (t't' [] | t't' [topic-alias ?] | s'' [topic-alias ?]) 'x'"
    choice = with_type.partition("32 rl ")[2]
    for text in (
        "t't' u1 [content-type 'c']",
        "t't' u1 [content-type 'c', topic-alias 5]",
        "s'' u1 [topic-alias 5, content-type 'c']",
    ):
        assert parse_pattern(choice).match(encoded(f"{text} 'y'"), Scope()) == 0


async def _exchange(address: tuple[str, int], data: bytes, answer_bytes: int) -> None:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(data)
    await reader.readexactly(answer_bytes)
    writer.close()
    await writer.wait_closed()


async def _record_a_session() -> list[Occurrence]:
    found: list[Occurrence] = []
    async with Server(["tcp://127.0.0.1:0"], policy=AllowAll()) as server:
        host, port = server.addresses[0].removeprefix("tcp://").rsplit(":", 1)
        recorder = Recorder(found.append, Redaction())
        async with RecordingProxy(("127.0.0.1", 0), (host, int(port)), recorder) as proxy:
            publish = bytes.fromhex("3406000174001278")
            await _exchange(proxy.address, CONNECT + SUBSCRIBE + publish, 4 + 5 + 4 + 8)
            async with asyncio.timeout(10):
                while found[-1].what != CUT:
                    await asyncio.sleep(0)
    return found


def test_a_recorded_trace_replays(tmp_path: Path) -> None:
    found = asyncio.run(_record_a_session())
    path = tmp_path / "area" / "new.trace"
    path.parent.mkdir()
    path.write_text(trace_text(found, "new"))
    (scenario,) = parse_trace(path)
    result = play_broker(scenario)
    assert result.outcome is Outcome.PASSED, f"{path.read_text()}\n{result.report()}"
    assert "a ! cut" in path.read_text()


def test_a_paced_trace_has_the_pauses_of_what_is_sent() -> None:
    found = occurrences(
        (0.0, 1, SENT, CONNECT),
        (1.5, 1, CAME, CONNACK),
        (1.7, 1, SENT, SUBSCRIBE),
        (1.7004, 1, SENT, b"\xc0\0"),
        (1.8, 1, CAME, SUBACK),
        (2.0, 1, CAME, b"\xd0\0"),
        (9.0, 1, CLOSED, b""),
    )
    text = trace_text(found, "name", is_paced=True)
    assert text.splitlines() == [
        "== name",
        "a > 10 rl s'MQTT' 04 02 u60 c'a'",
        "a < 20 02 00 00 within 5s",
        "@ 1.700s",
        "a > 82 rl u1 t't' 02",
        "a > c0 00",
        "a < 90 rl u1 02",
        "a < d0 00",
        "a = closed within 17s",
    ]
    assert parse_trace(Path("area/x.trace"), text)
