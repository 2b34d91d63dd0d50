"""A small broker that is wrong on purpose, for what looks for faults."""

from __future__ import annotations

import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from conformance._link import Framer

Answer = Callable[[bytes], bytes]
"""What is sent for a packet; b"" is nothing. `HANG_UP` ends the connection instead, `GO_AWAY` the
broker.
"""
HANG_UP, GO_AWAY = b"hang up", b"go away"


def obliging(packet: bytes) -> bytes:
    """Takes every client of 3.1.1, grants QoS 0, and passes nothing on."""
    match packet[0] >> 4:
        case 1:
            return b"\x20\x02\0\0" if packet[8:9] == b"\4" else b"\x20\x02\0\1"
        case 8:
            return b"\x90\x03" + packet[2:4] + b"\0"
        case 10:
            return b"\xb0\x02" + packet[2:4]
        case 12:
            return b"\xd0\0"
        case 14:
            return HANG_UP
        case _:
            return b""


class _Handler(socketserver.BaseRequestHandler):
    server: _Server

    def handle(self) -> None:
        framer = Framer()
        sock: socket.socket = self.request
        self.server.sockets.append(sock)
        try:
            while data := sock.recv(4096):
                for packet in framer.feed(data):
                    answer = self.server.answer(packet)
                    if answer == GO_AWAY:
                        self.server.shutdown()
                        self.server.server_close()
                    if answer in (HANG_UP, GO_AWAY):
                        return
                    sock.sendall(answer)
        except OSError:
            return  # the client has gone


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.sockets: list[socket.socket] = []

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.server_address[:2]
        return str(host), int(port)


@contextmanager
def wrong_broker(answer: Answer = obliging) -> Iterator[tuple[str, int]]:
    """Runs for as long as the block lasts; gives its address."""
    server = _Server(answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.address
    finally:
        server.shutdown()
        thread.join()
        for sock in server.sockets:
            sock.close()
        server.server_close()
