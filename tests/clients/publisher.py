"""A program that publishes numbers at QoS 2 with a store, until it is killed.

`publisher.py URL FOLDER FIRST`: it says each number that was acknowledged, one a line.
"""

from __future__ import annotations

import asyncio
import sys

from iotd import Client


async def main() -> None:
    """Publish without end."""
    url, folder, first = sys.argv[1:]
    async with Client(url, client_id="killed", session_expiry_s=600, store=folder) as client:
        number = int(first)
        while True:
            sent = [client.publish_nowait("numbers", str(number + n), 2) for n in range(20)]
            for n, each in enumerate(sent):
                await client.wait(each)
                print(number + n, flush=True)
            number += 20


asyncio.run(main())
