import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from edge_et.serve.error_replies import error_reply
from edge_et.serve.errors import RequestError
from edge_et.serve.metrics import Metrics
from edge_et.serve.safety import Guard
from edge_et.serve.settings import ServeSettings

OPENAI = {"message": "no", "type": "invalid_request_error", "code": "none", "param": None}


@pytest.mark.parametrize(
    ("path", "error"),
    [("/api/chat", "no"), ("/v1/chat/completions", OPENAI), ("/", OPENAI), ("/v1/api/", OPENAI)],
)
def test_an_error_has_the_form_of_its_protocol(path: str, error: Any) -> None:
    reply = error_reply(RequestError(404, "none", "no", {"X-More": "a"}), path)
    assert json.loads(reply.body) == {"error": error}
    assert (reply.status_code, reply.headers["x-more"]) == (404, "a")


def test_who_has_no_key_is_told_so_by_the_protocol() -> None:
    guard = Guard(Starlette(), ServeSettings(api_key="secret"), Metrics())
    reply = TestClient(guard, base_url="http://localhost").get("/api/tags")
    assert reply.status_code == 401
    assert "key" in reply.json()["error"]
