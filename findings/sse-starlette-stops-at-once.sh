#!/usr/bin/env bash
# sse-starlette 3.7.0: an EventSourceResponse ends at once when uvicorn gets SIGTERM, in the middle of
# its events, whatever timeout_graceful_shutdown says; a StreamingResponse of the same server is
# finished first. The package replaces uvicorn's Server.handle_exit when it is imported, and cancels
# all its streams itself; uvicorn says "ASGI callable returned without completing response".
#
# What works is shutdown_grace_period, an argument of each EventSourceResponse.
#
# Seen, of 10 events, the signal sent behind the first: "StreamingResponse: 10 of 10",
# "EventSourceResponse: fewer", "EventSourceResponse with a grace period: 10 of 10".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv venv
venv/bin/pip install --quiet sse-starlette==3.7.0 starlette==1.10.0 uvicorn==0.54.0

cat > streams.py <<'PYTHON'
import asyncio
import http.client
import os
import signal
import socket
import sys
import threading

import uvicorn
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route


async def events():
    for number in range(10):
        yield {"data": number}
        await asyncio.sleep(0.3)


async def lines():
    async for event in events():
        yield f"data: {event['data']}\n\n"


async def plain(request):
    return StreamingResponse(lines())


async def sent(request):
    return EventSourceResponse(events())


async def with_grace(request):
    return EventSourceResponse(events(), shutdown_grace_period=20)


kind = {"plain": plain, "sent": sent, "with_grace": with_grace}[sys.argv[1]]
listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]


def ask():
    client = http.client.HTTPConnection("127.0.0.1", port)
    client.request("GET", "/")
    reply = client.getresponse()
    count = 0
    for line in reply:
        if line.startswith(b"data:"):
            count += 1
            if count == 1:
                os.kill(os.getpid(), signal.SIGTERM)
    print("10 of 10" if count == 10 else "fewer", flush=True)


signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it once more at its end
asking = threading.Thread(target=ask)
asking.start()
config = uvicorn.Config(
    Starlette(routes=[Route("/", kind)]), log_level="error", timeout_graceful_shutdown=20
)
uvicorn.Server(config).run(sockets=[listener])
asking.join()
PYTHON

{
  echo "StreamingResponse: $(venv/bin/python streams.py plain)"
  echo "EventSourceResponse: $(venv/bin/python streams.py sent)"
  echo "EventSourceResponse with a grace period: $(venv/bin/python streams.py with_grace)"
} | tee seen
diff seen - <<'SEEN'
StreamingResponse: 10 of 10
EventSourceResponse: fewer
EventSourceResponse with a grace period: 10 of 10
SEEN
