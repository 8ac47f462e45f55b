import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.testclient import TestClient
from starlette.types import Message

from edge_et.serve import bodies
from edge_et.serve.app import create_app
from edge_et.serve.bodies import read_json
from edge_et.serve.errors import RequestError
from edge_et.serve.settings import ServeSettings

LIMIT = 200
PATHS = ["/v1/chat/completions", "/api/chat", "/api/generate", "/api/show", "/api/pull"]


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    app = create_app(ServeSettings(max_body_bytes=LIMIT))
    with TestClient(app, base_url="http://localhost") as client:
        yield client


def body_of(size: int) -> bytes:
    body = json.dumps({"model": "none", "messages": [{"role": "user", "content": "a"}]})
    return body.ljust(size).encode()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("has_length", [True, False])
def test_a_body_beyond_the_limit_is_told_of_it_by_the_protocol(
    client: TestClient, path: str, has_length: bool
) -> None:
    data = body_of(LIMIT + 1)
    content = data if has_length else (data[at : at + 100] for at in range(0, len(data), 100))
    reply = client.post(path, content=content)
    assert reply.status_code == 413
    error = reply.json()["error"]
    if path.startswith("/v1"):
        assert (error["type"], error["code"]) == ("invalid_request_error", "request_too_large")
        error = error["message"]
    assert f"{LIMIT} bytes" in error
    assert "--max-body-bytes" in error


@pytest.mark.parametrize("path", PATHS)
def test_a_body_of_the_limit_is_read(client: TestClient, path: str) -> None:
    assert client.post(path, content=body_of(LIMIT)).status_code == 404


def test_a_body_has_so_many_values_at_most(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "_MOST_VALUES", 20)
    reply = client.post("/api/show", json={"model": "none", "other": [0] * 9})
    assert reply.status_code == 404
    reply = client.post("/api/show", json={"model": "none", "other": [[0]] * 9})
    assert (reply.status_code, "more than 20 values" in reply.json()["error"]) == (400, True)


def read(*messages: Message, idle_s: float) -> dict[str, Any]:
    """Read the body of a client that sends messages, and then nothing."""

    async def read_all() -> dict[str, Any]:
        sent: asyncio.Queue[Message] = asyncio.Queue()
        for message in messages:
            sent.put_nowait(message)
        return await read_json(Request({"type": "http", "headers": []}, sent.get), LIMIT, idle_s)

    return asyncio.run(read_all())


def part(data: bytes, more_body: bool = True) -> Message:
    return {"type": "http.request", "body": data, "more_body": more_body}


def test_a_body_comes_in_parts() -> None:
    assert read(part(b'{"a"'), part(b": 1}", more_body=False), idle_s=60) == {"a": 1}


def test_a_body_that_stops_is_given_up() -> None:
    with pytest.raises(RequestError, match=r"nothing came for 0.01 seconds") as caught:
        read(part(b'{"a"'), idle_s=0.01)
    assert (caught.value.status, caught.value.code) == (408, "request_timeout")
    assert caught.value.headers["Connection"] == "close"


def test_a_client_that_hangs_up_in_its_body_is_no_fault_of_the_server() -> None:
    with pytest.raises(RequestError, match="hung up") as caught:
        read(part(b'{"a"'), {"type": "http.disconnect"}, idle_s=60)
    assert caught.value.status == 400
