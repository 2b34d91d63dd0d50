"""A broker inside your own program: users, rules, limits, and a line for each client."""

import asyncio
import sys

from iotd import Server
from mqtt_core.broker import Fact, Limits, Rule, StaticUsers

POLICY = StaticUsers(
    {"dashboard": b"secret", "sensor-1": b"also secret"},
    [
        Rule("site/#", username="dashboard"),
        Rule("site/%u/#"),  # everybody else stays below its own name
    ],
)
LIMITS = Limits(max_connections=1_000, max_packet_size_bytes=65_536)


def report(fact: Fact) -> None:
    """Called for all that a log would tell."""
    print(fact.name, fact.client_id, fact.cause or fact.detail, flush=True)


async def main(listen: str) -> None:
    """Serve until the program is interrupted."""
    async with Server(listen, policy=POLICY, limits=LIMITS, on_fact=report) as server:
        print("listening on", *server.urls, flush=True)
        await server.serve_forever()  # your own tasks run beside it


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:1883"))
    except KeyboardInterrupt:
        pass
