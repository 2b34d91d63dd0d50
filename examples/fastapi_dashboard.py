"""A broker beside a FastAPI application: one process, one event loop.

POST /site/1/light     publishes its body at that topic
GET  /events           what comes below `site/`, as server-sent events
GET  /                 a page that shows them

Start it with `python fastapi_dashboard.py [HTTP_PORT [MQTT_URL]]`.
"""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import uvicorn
from fastapi import Body, Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, StreamingResponse

from iotd import PublishError, Server
from mqtt_core import LocalProtocolError
from mqtt_core.broker import AuthRequest

PAGE = """<!doctype html><title>Site</title><ul id="list"></ul><script>
new EventSource("/events").onmessage = (event) => {
  const {topic, text} = JSON.parse(event.data)
  const item = document.createElement("li")
  item.textContent = topic + ": " + text
  document.getElementById("list").prepend(item)
}
</script>"""


async def may_connect(request: AuthRequest) -> bool:
    """Called for each client; it could ask a database here."""
    return request.client_id.startswith("device-") and request.password == b"secret"


@asynccontextmanager
async def with_broker(app: FastAPI) -> AsyncIterator[None]:
    """The broker lives as long as the application."""
    async with Server(app.state.mqtt_url, authenticate=may_connect) as broker:
        app.state.broker = broker
        print("devices on", broker.url, flush=True)
        yield


def broker_of(request: Request) -> Server:
    """The broker, for endpoints that ask for it."""
    broker: Server = request.app.state.broker
    return broker


Broker = Annotated[Server, Depends(broker_of)]
app = FastAPI(lifespan=with_broker)
app.state.mqtt_url = "tcp://127.0.0.1:1883"


@app.get("/")
def page() -> HTMLResponse:
    """Show what comes."""
    return HTMLResponse(PAGE)


@app.post("/site/{rest:path}", status_code=204)
async def publish(
    rest: str, text: Annotated[str, Body(media_type="text/plain")], broker: Broker
) -> None:
    """Publish, and answer when the message is with its receivers."""
    try:
        await broker.publish(f"site/{rest}", text, qos=1)
    except (LocalProtocolError, PublishError) as error:
        raise HTTPException(400, str(error)) from error


@app.get("/events")
async def events(broker: Broker) -> StreamingResponse:
    """A subscription for each who looks; it ends when they go."""

    async def stream() -> AsyncIterator[str]:
        async with broker.subscribe("site/#") as messages:
            yield ": subscribed\n\n"
            async for message in messages:
                text = message.payload.decode(errors="replace")
                yield f"data: {json.dumps({'topic': message.topic, 'text': text})}\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


async def main(http_port: int, mqtt_url: str) -> None:
    """Serve both until the program is interrupted."""
    app.state.mqtt_url = mqtt_url
    with socket.create_server(("127.0.0.1", http_port)) as listener:
        print(f"pages on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        await uvicorn.Server(config).serve([listener])


if __name__ == "__main__":
    http_port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    mqtt_url = sys.argv[2] if len(sys.argv) > 2 else app.state.mqtt_url
    try:
        asyncio.run(main(http_port, mqtt_url))
    except KeyboardInterrupt:
        pass
