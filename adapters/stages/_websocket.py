"""MQTT in WebSocket frames (6 of MQTT 5.0), as a stage between a transport and a client.

What the library does is the protocol of RFC 6455 without I/O; what is here is what MQTT asks of
it: the subprotocol `mqtt`, and binary frames whose borders mean nothing.
"""

from __future__ import annotations

import logging
from typing import Final, final

from adapters.stages._address import ServerAddress

_quiet: Final = logging.getLogger("iotd.websocket")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


class WebSocketError(OSError):
    """The server does not speak WebSocket, or not MQTT in it. The text says what to do."""


@final
class WebSocketStage:
    """The client's end of one WebSocket.

    `start` gives the first bytes, `receive` takes what came and gives what is MQTT in it, `send`
    wraps what goes out. After each call `take_output` may have bytes for the transport.
    """

    __slots__ = ("_address", "_output", "_protocol", "is_open")

    def __init__(self, address: ServerAddress, max_packet_size_bytes: int) -> None:
        from websockets.client import ClientProtocol
        from websockets.typing import Subprotocol
        from websockets.uri import parse_uri

        self._address: Final = address
        self._protocol: Final = ClientProtocol(
            parse_uri(address.url),
            subprotocols=[Subprotocol("mqtt")],  # [MQTT-6.0.0-3]
            max_size=max_packet_size_bytes,
            logger=_quiet,
        )
        self._output: list[bytes] = []
        self.is_open = False

    def start(self) -> None:
        """Ask for the WebSocket."""
        self._protocol.send_request(self._protocol.connect())
        self._collect()

    def receive(self, data: bytes) -> bytes:
        """What is MQTT in the bytes that came. Raises `WebSocketError`."""
        from websockets.frames import Frame, Opcode

        protocol = self._protocol
        protocol.receive_data(data)
        found: list[bytes] = []
        for event in protocol.events_received():
            if isinstance(event, Frame):
                if event.opcode is Opcode.TEXT:  # [MQTT-6.0.0-1]
                    raise WebSocketError("the server has sent text where MQTT has to be binary")
                if event.opcode in (Opcode.BINARY, Opcode.CONT):  # [MQTT-6.0.0-2]
                    found.append(bytes(event.data))
            else:
                self._answered()
        self._collect()
        if not self.is_open and protocol.handshake_exc is not None:
            raise WebSocketError(self._why(protocol.handshake_exc))
        return b"".join(found)

    def _answered(self) -> None:
        if self._protocol.handshake_exc is None:
            if self._protocol.subprotocol != "mqtt":  # [MQTT-6.0.0-4]
                raise WebSocketError(
                    f"the server does not speak MQTT at {self._address.url}; check the path "
                    "(often /mqtt)"
                )
            self.is_open = True

    def _why(self, error: BaseException) -> str:
        text = str(error)
        return (
            f"the server offers no WebSocket at {self._address.url} ({text}); check the port and "
            "the path (often /mqtt)"
        )

    def send(self, data: bytes) -> bytes:
        """MQTT bytes in a frame; none where the server has begun to close the WebSocket."""
        from websockets.protocol import State

        if self._protocol.state is not State.OPEN:
            return b""
        self._protocol.send_binary(data)
        self._collect()
        return self.take_output()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come through: the server has closed it, or has broken the
        protocol. The last bytes are in `take_output`; then the transport is to be closed."""
        from websockets.protocol import State

        return self.is_open and self._protocol.state is not State.OPEN

    def end(self) -> bytes:
        """The last bytes: the closing frame."""
        from websockets.protocol import State

        if self._protocol.state is State.OPEN:
            self._protocol.send_close(1000)
            self._collect()
        return self.take_output()

    def _collect(self) -> None:
        self._output += [bytes(each) for each in self._protocol.data_to_send()]

    def take_output(self) -> bytes:
        """What is to be sent for the WebSocket's own sake."""
        output = b"".join(self._output)
        self._output.clear()
        return output
