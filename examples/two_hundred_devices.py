"""Two hundred simulated devices on a broker of their own, in one program: for trying a fleet.

Each publishes readings over a real connection. Every tenth breaks down in the middle: its
connection is cut, and its will tells of it. The program watches from within the broker.
"""

import asyncio

from iotd import Server
from mqtt_core import ConnAck, Connect, Connection, Packet, PubAck, Will

DEVICES = 200
READINGS = 5


class Device:
    """A device: the client role of `mqtt_core` over a stream of asyncio."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._connection = Connection()
        self._events: list[Packet] = []

    async def run(self, url: str, *, breaks_down: bool) -> None:
        """Connect, publish readings, and go: in order, or not."""
        host, _, port = url.removeprefix("tcp://").rpartition(":")
        self._reader, self._writer = await asyncio.open_connection(host, int(port))
        will = Will(f"fleet/{self.name}/broken", b"", qos=1)
        self._connection.send_connect(Connect(self.name, will=will, keep_alive_s=60), self._now())
        await self._wait_for(ConnAck)
        for number in range(READINGS):
            if breaks_down and number == READINGS // 2:
                self._writer.transport.abort()
                return
            reading = f"{20 + number / 10:.1f}".encode()
            topic = f"fleet/{self.name}/temperature"
            self._connection.send_publish(topic, reading, qos=1, now=self._now())
            await self._wait_for(PubAck)
        self._connection.send_disconnect(self._now())
        await self._flush()
        self._writer.close()
        await self._writer.wait_closed()

    async def _wait_for(self, kind: type[Packet]) -> None:
        """Send what there is, and read until a packet of this type has come."""
        await self._flush()
        while not any(isinstance(event, kind) for event in self._events):
            data = await self._reader.read(65_536)
            if not data:
                raise ConnectionError(f"{self.name} has lost its connection")
            self._connection.receive_data(data, self._now())
            self._events += self._connection.events()
        self._events.clear()

    async def _flush(self) -> None:
        while data := self._connection.data_to_send():
            self._writer.write(data)
        await self._writer.drain()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def main() -> None:
    """Run the fleet and count what comes."""
    readings = 0
    broken: set[str] = set()
    expected = DEVICES // 10
    in_all = (DEVICES - expected) * READINGS + expected * (READINGS // 2)
    async with (
        Server() as broker,
        broker.subscribe("fleet/#", qos=1) as messages,
        asyncio.TaskGroup() as fleet,
    ):
        for number in range(DEVICES):
            device = Device(f"device-{number:03}")
            fleet.create_task(device.run(broker.url, breaks_down=number % 10 == 0))
        while readings < in_all or len(broken) < expected:
            message = await anext(messages)
            _, name, what = message.topic.split("/")
            if what == "broken":
                broken.add(name)
            else:
                readings += 1
    print(f"{DEVICES} devices, {readings} readings, {len(broken)} devices broke down")


if __name__ == "__main__":
    asyncio.run(main())
