"""Subscribe, publish, print what comes back: a whole MQTT client over a plain socket."""

import socket
import sys
from time import monotonic

from mqtt_core import ConnAck, Connect, Connection, ConnectionLost, Publish, SubAck, reason_name

host, port = sys.argv[1:] if len(sys.argv) > 1 else ("127.0.0.1", "1883")

with socket.create_connection((host, int(port)), timeout=10) as transport:
    client = Connection()
    client.send_connect(Connect("", keep_alive_s=30), monotonic())  # the broker names us
    while True:
        transport.sendall(b"".join(iter(client.data_to_send, b"")))
        if client.wants_close:
            break
        deadline = client.next_deadline()
        transport.settimeout(None if deadline is None else max(0.001, deadline - monotonic()))
        try:
            if data := transport.recv(65_536):
                client.receive_data(data, monotonic())
            else:
                client.eof(monotonic())
        except TimeoutError:
            client.advance(monotonic())  # sends PINGREQ, or gives up
        for event in client.events():
            match event:
                case ConnAck(reason=0):
                    client.send_subscribe([("greeting/#", 1)], monotonic())
                case SubAck():
                    client.send_publish("greeting/hello", b"Hello!", qos=1, now=monotonic())
                case Publish(topic, payload) if not client.wants_close:
                    print(topic, payload.decode())
                    client.send_disconnect(monotonic())
                case ConnAck(reason=reason):
                    sys.exit(f"refused: {reason_name(reason)}")
                case ConnectionLost(why=why):
                    sys.exit(why)
