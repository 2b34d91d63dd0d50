"""A broker beside a Flask application on gevent: devices speak MQTT, people and programs HTTP.

GET  /devices/lamp-1            its last state, which it publishes at `state/lamp-1`
POST /devices/lamp-1/ask        a question, answered by the device within two seconds

A question goes to `ask/lamp-1` with a response topic; the answer comes there (4.10 of MQTT 5.0).
Nothing is monkey-patched. Start it with `python flask_gateway.py [HTTP_PORT [MQTT_URL]]`.
"""

import itertools
import signal
import sys

import gevent
from flask import Flask, Response, request
from gevent.pywsgi import WSGIServer

from iotd.gevent import Server
from mqtt_core import properties
from mqtt_core.broker import SUBSCRIBE_ACTION, AuthorizeRequest, AuthRequest, Limits

PASSWORDS = {"lamp-1": b"one", "lamp-2": b"two"}
PATIENCE_S = 2.0


def may_connect(device: AuthRequest) -> bool:
    """A device connects by its own name. This may block: it has a greenlet of its own."""
    known = PASSWORDS.get(device.client_id)
    return known is not None and device.password == known


def may_use(wish: AuthorizeRequest) -> bool:
    """A device hears its questions, tells its state and answers."""
    if wish.action == SUBSCRIBE_ACTION:
        return wish.topic == f"ask/{wish.client_id}"
    return wish.topic == f"state/{wish.client_id}" or wish.topic.startswith("answer/")


def gateway(broker: Server) -> Flask:
    """The application."""
    app = Flask(__name__)
    states: dict[str, bytes] = {}
    numbers = itertools.count(1)

    def remember() -> None:
        for message in broker.subscribe("state/+"):
            states[message.topic.removeprefix("state/")] = message.payload

    gevent.spawn(remember)

    @app.get("/devices/<device>")
    def state(device: str) -> Response:
        if device not in states:
            return Response("nothing known of it\n", 404, mimetype="text/plain")
        return Response(states[device], mimetype="text/plain")

    @app.post("/devices/<device>/ask")
    def ask(device: str) -> Response:
        topic = f"answer/{next(numbers)}"
        with broker.subscribe(topic) as answers:
            question = request.get_data()
            broker.publish(
                f"ask/{device}", question, properties=((properties.RESPONSE_TOPIC, topic),)
            )
            try:
                answer = answers.get(PATIENCE_S)
            except TimeoutError:
                return Response("no answer\n", 504, mimetype="text/plain")
        return Response(b"" if answer is None else answer.payload, mimetype="text/plain")

    return app


def main(http_port: int, mqtt_url: str) -> None:
    """Serve both until the program is interrupted."""
    limits = Limits(max_connections=1_000)
    with Server(mqtt_url, limits=limits, authenticate=may_connect, authorize=may_use) as broker:
        web = WSGIServer(("127.0.0.1", http_port), gateway(broker), log=None)
        web.start()
        # As a greenlet; a KeyboardInterrupt could come in the middle of anything.
        gevent.signal_handler(signal.SIGINT, broker.shut_down)
        print("devices on", broker.url, flush=True)
        print(f"pages on http://127.0.0.1:{web.server_port}", flush=True)
        broker.serve_forever()
        web.stop()


if __name__ == "__main__":
    http_port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    mqtt_url = sys.argv[2] if len(sys.argv) > 2 else "tcp://127.0.0.1:1883"
    main(http_port, mqtt_url)
