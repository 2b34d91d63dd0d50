"""Between a client and a server: other transports in front of a TCP server, and cut connections.

async with Relay(server.address) as relay:
    async with Client(relay.url) as client:
        relay.cut()
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Relay:
    """Carries bytes between those who connect to it and a server.

    With `path` it listens on a Unix socket, with `tls` it speaks TLS. While not `is_open` it turns
    everybody away; while `is_silent` it says nothing to anybody.
    """

    def __init__(
        self,
        address: tuple[str, int],
        *,
        path: Path | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._address = address
        self._path = path
        self._tls = tls
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.is_open = True
        self.is_silent = False
        self.port = 0

    @property
    def url(self) -> str:
        """Where a client connects."""
        if self._path is not None:
            return f"unix://{self._path}"
        return f"{'mqtts' if self._tls else 'mqtt'}://localhost:{self.port}"

    async def __aenter__(self) -> Self:
        if self._path is not None:
            self._server = await asyncio.start_unix_server(self._serve, self._path)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Break every connection."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        if not self.is_open:
            writer.transport.abort()
            return
        there, to_server = await asyncio.open_connection(*self._address)
        self._writers |= {writer, to_server}
        try:
            await asyncio.gather(
                self._carry(reader, to_server), self._carry(there, writer, is_answer=True)
            )
        finally:
            self._writers -= {writer, to_server}

    async def _carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, is_answer: bool = False
    ) -> None:
        try:
            while data := await source.read(65_536):
                if not (is_answer and self.is_silent):
                    sink.write(data)
                    await sink.drain()
        except (ConnectionError, OSError):
            pass
        finally:
            sink.transport.abort()


def make_certificate(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The TLS contexts of a server on localhost, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    client = ssl.create_default_context(cafile=str(pem))
    return server, client
