"""Log in by SCRAM-SHA-256 over a plain socket, prove it once more, and leave.

python examples/scram_client.py NAME [HOST PORT]    asks for the password, and does not send it
"""

import socket
import sys
from getpass import getpass
from time import monotonic

from iotd import ScramClient
from mqtt_core import (
    MQTT_5,
    Auth,
    ConnAck,
    Connect,
    Connection,
    ConnectionLost,
    Disconnect,
    Properties,
    properties,
    reason_name,
    reasons,
)

name = sys.argv[1]
host, port = sys.argv[2:] if len(sys.argv) > 2 else ("127.0.0.1", "1883")
password = getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


def say(data: bytes) -> Properties:
    """A message of SCRAM, as a packet carries it."""
    return ((properties.AUTHENTICATION_DATA, data),)


def said(packet: Auth | ConnAck) -> bytes:
    """What the server has said; if it does not know our password either, `finish` finds out."""
    return properties.binary(packet.properties, properties.AUTHENTICATION_DATA) or b""


login = ScramClient(name, password)

with socket.create_connection((host, int(port)), timeout=10) as transport:
    client = Connection()
    method = ((properties.AUTHENTICATION_METHOD, login.method),)
    first = Connect("", level=MQTT_5, properties=method + say(login.begin()))
    client.send_connect(first, monotonic())
    while True:
        transport.sendall(b"".join(iter(client.data_to_send, b"")))
        if client.wants_close:
            break
        if data := transport.recv(65_536):
            client.receive_data(data, monotonic())
        else:
            client.eof(monotonic())
        for event in client.events():
            match event:
                case Auth(reason=reasons.CONTINUE_AUTHENTICATION):
                    answer = Auth(properties=say(login.answer(said(event))))
                    client.send_auth(answer, monotonic())
                case ConnAck(reason=reasons.SUCCESS):
                    login.finish(said(event))
                    print("logged in as", name)
                    # As a long connection may at any time.
                    again = Auth(reasons.RE_AUTHENTICATE, say(login.begin()))
                    client.send_auth(again, monotonic())
                case Auth(reason=reasons.SUCCESS):
                    login.finish(said(event))
                    print("still", name)
                    client.send_disconnect(monotonic())
                case ConnAck(reason=reason) | Disconnect(reason=reason):
                    sys.exit(f"refused: {reason_name(reason)}")
                case ConnectionLost(why=why):
                    sys.exit(why)
