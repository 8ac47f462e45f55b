#!/usr/bin/env bash
# uvicorn 0.54.0 with asyncio of Python 3.11: a reply to a connection that is kept open takes
# some 40 ms more where the program listens itself and hands the socket over (sockets=[...] or --fd),
# than where uvicorn is told host and port. asyncio sets TCP_NODELAY only where the socket's protocol
# says IPPROTO_TCP; that of socket.create_server, and of every socket made with the usual two
# arguments, is 0, and accepted ones inherit it. A reply's head and body are two writes, and the second
# one waits for the client's delayed acknowledgement.
#
# What works is to set TCP_NODELAY on the listening socket (Linux: accepted ones have it then), or to
# make that with socket.IPPROTO_TCP as third argument.
#
# Seen, of the accepted connection: "by host and port: TCP_NODELAY", "by socket: waits", "by socket with
# IPPROTO_TCP: TCP_NODELAY", "by socket with TCP_NODELAY: TCP_NODELAY".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv venv
venv/bin/pip install --quiet uvicorn==0.54.0

cat > serve.py <<'PYTHON'
import http.client
import socket
import sys
import threading
import time

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

how = sys.argv[1]
kept = None


async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"told"})


class Watched(H11Protocol):
    def connection_made(self, transport):
        global kept
        super().connection_made(transport)
        kept = transport.get_extra_info("socket")


config = uvicorn.Config(app, http=Watched, port=0, lifespan="off", log_level="error")
server = uvicorn.Server(config)
listener = None
if how != "host and port":
    protocol = socket.IPPROTO_TCP if how == "socket with IPPROTO_TCP" else 0
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    if how == "socket with TCP_NODELAY":
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
threading.Thread(target=server.run, args=([listener] if listener else None,), daemon=True).start()
while not server.started:
    time.sleep(0.01)
port = server.servers[0].sockets[0].getsockname()[1]
client = http.client.HTTPConnection("127.0.0.1", port)
client.request("GET", "/")
assert client.getresponse().read() == b"told"
is_set = kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
print(f"by {how}:", "TCP_NODELAY" if is_set else "waits")
server.should_exit = True
PYTHON

for how in "host and port" socket "socket with IPPROTO_TCP" "socket with TCP_NODELAY"; do
    venv/bin/python serve.py "$how"
done | tee seen.txt

diff seen.txt - <<'SEEN'
by host and port: TCP_NODELAY
by socket: waits
by socket with IPPROTO_TCP: TCP_NODELAY
by socket with TCP_NODELAY: TCP_NODELAY
SEEN
