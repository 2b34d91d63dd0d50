"""Send a request and print its response, over a plain socket in MQTT 5.0.

python examples/request_client.py TOPIC TEXT [HOST PORT]

Who answers publishes to the response topic of the request, with its correlation data.
"""

import secrets
import socket
import sys
from time import monotonic

from mqtt_core import (
    MQTT_5,
    ConnAck,
    Connect,
    Connection,
    ConnectionLost,
    Disconnect,
    PubAck,
    Publish,
    SubAck,
    reason_name,
    reasons,
)
from mqtt_core.properties import CORRELATION_DATA, RESPONSE_TOPIC, binary

topic, text, *address = sys.argv[1:]
host, port = address or ("127.0.0.1", "1883")
mark = secrets.token_bytes(8)  # to know the response to this request by
own_topic = ""

with socket.create_connection((host, int(port))) as transport:
    client = Connection()
    client.send_connect(Connect("", level=MQTT_5), monotonic())  # the broker names us
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
                case ConnAck(reason=reasons.SUCCESS):
                    own_topic = f"responses/{client.client_id}"
                    client.send_subscribe([(own_topic, 1)], monotonic())
                case SubAck(reasons=(1,)):
                    wanted = ((RESPONSE_TOPIC, own_topic), (CORRELATION_DATA, mark))
                    request = text.encode()
                    client.send_publish(topic, request, 1, now=monotonic(), properties=wanted)
                case PubAck(reason=reasons.NO_MATCHING_SUBSCRIBERS):
                    sys.exit(f"nobody answers at {topic}")
                case Publish(message=message):
                    if binary(message.properties, CORRELATION_DATA) == mark:
                        print(message.payload.decode())
                        client.send_disconnect(monotonic())
                case SubAck(reasons=(reason,)) | ConnAck(reason=reason) | Disconnect(reason=reason):
                    sys.exit(f"refused: {reason_name(reason)}")
                case ConnectionLost(why=why):
                    sys.exit(why)
