"""The commands of `iotd bench` and their flags. What they do is loaded only when they run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

BENCH_HELP: Final = """\
Measure MQTT brokers: how many messages or connections a second, how long each takes, and whether
all of them arrived. Any broker of MQTT 3.1.1 or 5.0, or several in turn.

\b
Examples:
  iotd bench list
  iotd bench run q0-fanout localhost:1883
  iotd bench run p2p iotd=localhost:1883 other=localhost:1884 --runs 5 --plot p2p.svg
"""

_LIST_HELP: Final = """\
Tell what each scenario does, in words and numbers.

\b
Examples:
  iotd bench list
  iotd bench list --json
"""

_RUN_HELP: Final = """\
Run a scenario, or several with commas between them, on one broker or on several in turn.

\b
Examples:
  How many messages a second, closed loop (5 seconds, 3 runs):
    iotd bench run q0-pair localhost:1883
\b
  Latency at a steady 20,000 messages a second, open loop:
    iotd bench run q1-pairs localhost --rate 20000 --seconds 30
\b
  Two brokers in turn, A B A B, with ratios, a plot and figures for a program:
    iotd bench run q0-pair,q1-pair iotd=localhost:1883 other=localhost:1884 \\
        --runs 5 --plot compare.svg --json > compare.json
\b
  20,000 clients that connect at once, 2,000 a second:
    iotd bench run storm localhost --connections 20000 --connect-rate 2000
\b
  A shape of your own, spread over two processes:
    iotd bench run fanout localhost --publishers 2 --topics 2 --subscribers 500 --rate 100 \\
        --payload 256 --processes 2

A broker is HOST, HOST:PORT, NAME=HOST:PORT or a URL tcp://HOST:PORT. The first one is what others
are compared with. Without --rate the loop is closed: a publisher waits when --window messages are
under way, which shows what a broker can carry. With --rate it is open: messages are due whatever
the broker does, and their time runs from when they were due, so that no pause is left out of the
percentiles.

Exit code: 0 all arrived, 1 messages were lost, came twice or a run broke off, 2 nothing could be
measured. docs/bench.md says how to read the figures.
"""


def _root() -> None:
    """Taken from `BENCH_HELP`."""


def _list(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Taken from `_LIST_HELP`."""
    from iotd.cli._bench_list import list_scenarios

    raise typer.Exit(list_scenarios(json))


def _run(
    scenario: Annotated[
        str,
        typer.Argument(
            metavar="SCENARIO", help="What to run, or several: A,B; `iotd bench list` has them."
        ),
    ],
    brokers: Annotated[
        list[str],
        typer.Argument(
            metavar="BROKER...", help="Running brokers, each HOST, HOST:PORT or NAME=HOST:PORT."
        ),
    ],
    runs: Annotated[int, typer.Option(metavar="N", min=1, help="Rounds of all brokers.")] = 3,
    seconds: Annotated[
        float | None, typer.Option(metavar="S", help="Length of each run. [default: 5]")
    ] = None,
    messages: Annotated[
        int | None,
        typer.Option(metavar="N", help="Messages of each publisher, instead of --seconds."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="Messages a second of all publishers, due whatever the broker does; 0: none, "
            "the loop is closed.",
        ),
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(metavar="N", help="Messages of a publisher under way, in a closed loop."),
    ] = None,
    publishers: Annotated[int | None, typer.Option(metavar="N", help="Clients that send.")] = None,
    subscribers: Annotated[
        int | None, typer.Option(metavar="N", help="Clients that receive.")
    ] = None,
    topics: Annotated[int | None, typer.Option(metavar="N", help="Topics written to.")] = None,
    payload: Annotated[
        int | None, typer.Option(metavar="BYTES", help="Size of each message.")
    ] = None,
    qos: Annotated[int | None, typer.Option(metavar="0|1|2", help="Of both sides.")] = None,
    version: Annotated[
        str | None, typer.Option(metavar="3.1.1|5", help="Version of MQTT. [default: 3.1.1]")
    ] = None,
    connections: Annotated[
        int | None, typer.Option(metavar="N", help="Clients of a connection storm.")
    ] = None,
    connect_rate: Annotated[
        float | None,
        typer.Option(
            metavar="N", help="Connections a second of a storm; 0: --window of them at a time."
        ),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Processes of the generator, each with a part of the clients."
        ),
    ] = 1,
    stall: Annotated[
        float,
        typer.Option("--stall", metavar="S", min=0.1, help="Wait so long for what is missing."),
    ] = 5.0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE.svg|png", help="Draw rates and latencies; overwrites FILE."),
    ] = None,
    save_svg: Annotated[
        Path | None,
        typer.Option(metavar="FILE.svg", help="Save what the terminal shows as a picture."),
    ] = None,
) -> None:
    """Taken from `_RUN_HELP`."""
    from iotd.cli._bench import bench
    from iotd.cli._bench_choices import ChoiceError, Choices, plan_of

    choices = Choices(
        runs=runs,
        seconds=seconds,
        messages=messages,
        rate=rate,
        window=window,
        publishers=publishers,
        subscribers=subscribers,
        topics=topics,
        payload=payload,
        qos=qos,
        version=version,
        connections=connections,
        connect_rate=connect_rate,
        processes=processes,
        stall=stall,
    )
    try:
        plan = plan_of(scenario, brokers, choices, plot, save_svg)
    except ChoiceError as error:
        raise typer.BadParameter(str(error)) from None
    raise typer.Exit(bench(plan, as_json=json))


def bench_app() -> typer.Typer:
    """The commands below `iotd bench`."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    app.callback(help=BENCH_HELP)(_root)
    app.command("run", help=_RUN_HELP, short_help="Measure brokers.")(_run)
    app.command("list", help=_LIST_HELP, short_help="What there is to run.")(_list)
    return app
