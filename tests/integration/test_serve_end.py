"""How a server ends, and what it writes of clients that hang up."""

import base64
import json
import signal
import socket
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tiny.places import ROOT
from tiny.server import Served, running, serving

CLIENTS = 16
PICTURE = base64.b64encode((ROOT / "examples" / "cat.png").read_bytes()).decode()
HALF = b'POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"model": "mini"'


def connect(served: Served) -> socket.socket:
    where = urlsplit(served.address)
    return socket.create_connection((where.hostname, where.port or 0), timeout=20)


def ask_all(served: Served, ends: Callable[[], None]) -> list[tuple[str, httpx.Response]]:
    """Ask in every protocol, streamed and not, and end the server while most wait.

    Args:
        served: the server.
        ends: does it.
    """
    replies: list[tuple[str, httpx.Response]] = []

    def ask(number: int) -> None:
        path = ("/v1/chat/completions", "/api/chat")[number % 2]
        message: dict[str, Any] = {"role": "user", "content": f"What is number {number}?"}
        if path == "/api/chat":
            message["images"] = [PICTURE]
        else:
            shown = {"url": f"data:image/png;base64,{PICTURE}"}
            text = {"type": "text", "text": message["content"]}
            message["content"] = [text, {"type": "image_url", "image_url": shown}]
        body: dict[str, Any] = {"messages": [message], "stream": number % 4 < 2}
        reply = httpx.post(served.address + path, json={**body, "model": "mini"}, timeout=60)
        replies.append((path, reply))

    clients = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    under_way = f"edge_et_requests_under_way {CLIENTS}.0"
    while under_way not in httpx.get(f"{served.address}/metrics").text and not replies:
        time.sleep(0.05)
    ends()
    for client in clients:
        client.join()
    return replies


def check_told(path: str, reply: httpx.Response) -> bool:
    """Check a reply; return whether it is an answer."""
    if reply.status_code == 503:
        error = reply.json()["error"]
        assert "stopped" in (error if path == "/api/chat" else error["message"])
        return False
    assert reply.status_code == 200
    if "json" in reply.headers["content-type"] and "ndjson" not in reply.headers["content-type"]:
        return True
    lines = [line for line in reply.text.splitlines() if line and not line.startswith(":")]
    last = lines[-1].removeprefix("data: ")
    if last == "[DONE]" or json.loads(last).get("done"):
        return True
    assert json.loads(last)["error"], lines
    return False


@pytest.mark.parametrize("signals", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_is_not_answered_in_time_is_told(signals: int) -> None:
    grace_s = 1.5 if signals == 1 else 600  # streams begin after a second
    program = "from edge_et.serve import ServeSettings, serve; "
    program += f"serve(ServeSettings(port=0), grace_s={grace_s})"
    with running("-c", program) as served:

        def end() -> None:
            for _ in range(signals):
                served.process.send_signal(signal.SIGINT)
                time.sleep(1.5)

        replies = ask_all(served, end)
        served.process.wait(timeout=60)
    answered = [check_told(path, reply) for path, reply in replies]
    assert len(answered) == CLIENTS
    cut = [reply for (_, reply), whole in zip(replies, answered, strict=True) if not whole]
    assert {reply.status_code for reply in cut} == {200, 503}
    assert "Traceback" not in "".join(served.log)


def test_half_a_body_holds_nothing_up() -> None:
    with serving() as served:
        connect(served).close()
        with connect(served) as hanging_up:
            hanging_up.sendall(HALF)
        with connect(served) as waiting:
            waiting.sendall(HALF)
            assert httpx.get(f"{served.address}/health").status_code == 200
            served.process.terminate()
            told = waiting.makefile("rb").read()
            served.process.wait(timeout=20)
    assert b" 503 " in told.splitlines()[0]
    assert b"the server is being stopped" in told
    assert len(served.log) == 1, "".join(served.log)
