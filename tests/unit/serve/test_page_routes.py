import asyncio
import base64
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient

from edge_et.results import (
    Answer,
    AnswerToken,
    Event,
    ExtractionToken,
    PhaseUsage,
    Progress,
    ReasoningToken,
)
from edge_et.serve.call import Call
from edge_et.serve.chat_request import ChatRequest
from edge_et.serve.error_replies import error_reply
from edge_et.serve.errors import RequestError
from edge_et.serve.page_routes import page_routes
from edge_et.serve.server import Server
from edge_et.serve.settings import ServeSettings

ANSWER = Answer(
    text="a cat",
    extraction="A cat.",
    reasoning="It is a cat.",
    usage={"think": PhaseUsage(seconds=0.5, reused_tokens=7)},
)
ASKED = {"question": "What is this?", "pictures": [base64.b64encode(b"picture").decode()]}


class FakeServer:
    def __init__(self) -> None:
        self.settings = ServeSettings(max_images=2, max_body_bytes=1000)
        models = (SimpleNamespace(name="mini"), SimpleNamespace(name="other"))
        self.models = SimpleNamespace(all=lambda: models)
        self.asked: list[ChatRequest] = []
        self.told: list[Event | RequestError] = [ANSWER]

    def events(self, chat: ChatRequest, http: Request) -> Call:
        self.asked.append(chat)

        async def work(tell: Callable[[Event], None]) -> None:
            for event in self.told:
                if isinstance(event, RequestError):
                    raise event
                tell(event)
                await asyncio.sleep(0.05)  # so that the reply has begun

        return Call(work, http)


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def client(server: FakeServer) -> Iterator[TestClient]:
    async def tell(http: Request, err: Exception) -> Response:
        return error_reply(cast(RequestError, err), http.url.path)

    app = Starlette(
        routes=page_routes(cast(Server, server)), exception_handlers={RequestError: tell}
    )
    with TestClient(app) as client:
        yield client


def events(reply: Any) -> list[dict[str, Any]]:
    assert reply.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in reply.text.splitlines() if line]
    assert all(line.startswith("data: ") for line in lines)
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_both_stages_are_told_apart(client: TestClient, server: FakeServer) -> None:
    server.told = [
        Progress(stage="extract", phase="prefill", done=3, total=9, picture=1),
        ExtractionToken("A cat.", picture=1),
        ReasoningToken("It is\n\na cat."),
        AnswerToken("a cat"),
        ANSWER,
    ]
    progress, extraction, reasoning, answer, done = events(client.post("/edge-et/ask", json=ASKED))
    assert progress == {
        "type": "progress",
        "stage": "extract",
        "phase": "prefill",
        "done": 3,
        "total": 9,
        "seconds_left": None,
        "picture": 1,
    }
    assert extraction == {"type": "extraction", "text": "A cat.", "picture": 1}
    assert reasoning == {"type": "reasoning", "text": "It is\n\na cat."}
    assert answer == {"type": "answer", "text": "a cat"}
    assert done == {"type": "done", "answer": ANSWER.to_dict()}
    assert server.asked[0].turns[0].pictures == (b"picture",)


def test_a_failure_before_the_first_event_has_its_status(
    client: TestClient, server: FakeServer
) -> None:
    server.told = [RequestError(429, "overloaded", "ask again", {"Retry-After": "3"})]
    reply = client.post("/edge-et/ask", json=ASKED)
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "3")
    assert reply.json()["error"]["message"] == "ask again"


def test_a_failure_on_the_way_is_the_last_event(client: TestClient, server: FakeServer) -> None:
    server.told = [AnswerToken("a"), RequestError(500, "server_error", "the model failed")]
    _, last = events(client.post("/edge-et/ask", json=ASKED))
    told = {"status": 500, "code": "server_error", "message": "the model failed"}
    assert last == {"type": "error", **told}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"question": "?", "x": 1}', 400),
        (b"a" * 1001, 413),
    ],
)
def test_a_wrong_body_begins_no_call(
    client: TestClient, server: FakeServer, body: bytes, status: int
) -> None:
    reply = client.post("/edge-et/ask", content=body)
    assert reply.status_code == status
    assert reply.json()["error"]["message"]
    assert server.asked == []


def test_what_the_page_has_to_know_of_the_server(client: TestClient) -> None:
    told = {"models": ["mini", "other"], "max_body_bytes": 1000, "max_images": 2}
    assert client.get("/edge-et/server").json() == told
