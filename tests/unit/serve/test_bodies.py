import json
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from edge_et.serve import bodies
from edge_et.serve.app import create_app
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
