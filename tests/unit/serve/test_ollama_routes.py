import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.testclient import TestClient

from edge_et.results import Answer, AnswerToken, Event
from edge_et.serve.call import Call
from edge_et.serve.chat_request import ChatRequest
from edge_et.serve.error_replies import error_reply
from edge_et.serve.errors import RequestError
from edge_et.serve.models import ServedModel
from edge_et.serve.ollama_routes import ollama_routes
from edge_et.serve.server import Server
from edge_et.serve.settings import ServeSettings

ANSWER = Answer(text="a cat", extraction="", reasoning="", usage={})
ASKED = {"role": "user", "content": "What is this?"}


def served(name: str, *, has_thoughts: bool = False) -> ServedModel:
    perceiver = SimpleNamespace(architecture="llama", context_length=1024, embedding_width=576)
    think = SimpleNamespace(thoughts=object() if has_thoughts else None)
    manifest = SimpleNamespace(perceiver=perceiver, think=think)
    return ServedModel(
        name=name,
        bundle=cast(Any, SimpleNamespace(manifest=manifest, folder=Path("/secret/folder"))),
        size_bytes=123,
        modified=datetime(2026, 11, 1, tzinfo=UTC),
        digest="ab" * 32,
        keep_alive_s=300.0,
        loading=asyncio.Lock(),
    )


class Shelf:
    def __init__(self) -> None:
        self.models = [served("mini"), served("thinker", has_thoughts=True)]
        self.leased: list[float | None] = []

    def all(self) -> tuple[ServedModel, ...]:
        return tuple(self.models)

    def find(self, name: str) -> ServedModel:
        if not name:
            return self.models[0]
        for model in self.models:
            if name.removesuffix(":latest") == model.name:
                return model
        raise RequestError(404, "model_not_found", "this server has mini, thinker")

    @asynccontextmanager
    async def lease(
        self, model: ServedModel, keep_alive_s: float | None = None
    ) -> AsyncIterator[None]:
        self.leased.append(keep_alive_s)
        model.pipeline = cast(Any, object())
        yield

    async def unload(self, model: ServedModel) -> None:
        model.pipeline = None


class FakeServer:
    def __init__(self) -> None:
        self.settings = ServeSettings()
        self.models = Shelf()
        self.asked: list[ChatRequest] = []
        self.told: list[Event | RequestError] = [AnswerToken("a"), AnswerToken(" cat"), ANSWER]
        self.wait_s = 0.0

    def events(self, chat: ChatRequest, http: Request) -> Call:
        self.asked.append(chat)

        async def work(tell: Callable[[Event], None]) -> None:
            for event in self.told:
                if isinstance(event, RequestError):
                    raise event
                tell(event)
                await asyncio.sleep(self.wait_s)

        return Call(work, http)

    async def answer(self, chat: ChatRequest, http: Request) -> Answer:
        return await self.events(chat, http).answer()


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


@pytest.fixture
def client(server: FakeServer) -> Iterator[TestClient]:
    async def tell(http: Request, err: Exception) -> Response:
        return error_reply(cast(RequestError, err), http.url.path)

    app = Starlette(
        routes=ollama_routes(cast(Server, server)), exception_handlers={RequestError: tell}
    )
    with TestClient(app) as client:
        yield client


def lines(reply: Any) -> list[dict[str, Any]]:
    assert reply.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in reply.text.splitlines()]


def test_clients_find_what_they_look_for_first(client: TestClient) -> None:
    assert client.get("/").text == "Ollama is running"
    assert client.head("/").status_code == 200
    assert client.head("/api/tags").status_code == 200
    assert client.get("/api/version").json()["version"].count(".") == 2


def test_models_are_listed_under_both_names(client: TestClient) -> None:
    mini, thinker = client.get("/api/tags").json()["models"]
    assert mini["name"] == mini["model"] == "mini:latest"
    assert (mini["size"], mini["digest"]) == (123, "ab" * 32)
    assert datetime.fromisoformat(mini["modified_at"]) == datetime(2026, 11, 1, tzinfo=UTC)
    assert mini["details"]["family"] == "llama"
    assert thinker["model"] == "thinker:latest"


@pytest.mark.parametrize("body", [{"model": "mini"}, {"name": "mini:latest"}, {"model": ""}])
def test_a_model_is_shown(client: TestClient, body: dict[str, str]) -> None:
    reply = client.post("/api/show", json=body)
    shown = reply.json()
    assert shown["capabilities"] == ["completion", "vision"]
    assert shown["model_info"]["general.architecture"] == "llama"
    assert shown["model_info"]["llama.context_length"] == 1024
    assert "secret" not in reply.text


def test_a_model_with_thoughts_says_so(client: TestClient) -> None:
    shown = client.post("/api/show", json={"model": "thinker"}).json()
    assert "thinking" in shown["capabilities"]


def test_a_model_that_is_there_is_pulled_at_once(client: TestClient) -> None:
    assert lines(client.post("/api/pull", json={"model": "mini"})) == [{"status": "success"}]
    reply = client.post("/api/pull", json={"name": "mini:latest", "stream": False})
    assert reply.json() == {"status": "success"}


@pytest.mark.parametrize("path", ["pull", "show", "chat", "generate"])
def test_a_model_that_is_not_there(client: TestClient, path: str) -> None:
    reply = client.post(f"/api/{path}", json={"model": "llava", "messages": [ASKED], "prompt": "a"})
    assert reply.status_code == 404
    assert "mini" in reply.json()["error"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/api/create"),
        ("POST", "/api/copy"),
        ("POST", "/api/push"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/blobs/sha256:00"),
        ("POST", "/api/embed"),
        ("POST", "/api/embeddings"),
    ],
)
def test_what_is_not_done_is_an_error(client: TestClient, method: str, path: str) -> None:
    reply = client.request(method, path, json={"model": "mini"})
    assert 400 <= reply.status_code < 500
    assert isinstance(reply.json()["error"], str)


def test_a_chat_is_a_stream_unless_told_otherwise(client: TestClient) -> None:
    told = lines(client.post("/api/chat", json={"model": "mini", "messages": [ASKED]}))
    assert [part["message"]["content"] for part in told] == ["a", " cat", ""]
    assert [part["done"] for part in told] == [False, False, True]
    assert told[-1]["done_reason"] == "stop"


def test_a_chat_at_once(client: TestClient, server: FakeServer) -> None:
    body = {"model": "mini:latest", "messages": [ASKED], "stream": False, "tools": [{}]}
    reply = client.post("/api/chat", json=body)
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-edge-et-ignored"] == "tools"
    told = reply.json()
    assert (told["model"], told["message"]["content"]) == ("mini:latest", "a cat")
    assert server.asked[0].turns[-1].text == "What is this?"


def test_a_text(client: TestClient) -> None:
    body = {"model": "mini", "prompt": "What is this?"}
    told = lines(client.post("/api/generate", json=body))
    assert "".join(part["response"] for part in told) == "a cat"
    assert (
        client.post("/api/generate", json={**body, "stream": False}).json()["response"] == "a cat"
    )


def test_a_failure_before_the_first_text_has_its_status(
    client: TestClient, server: FakeServer
) -> None:
    server.told = [RequestError(429, "overloaded", "ask again", {"Retry-After": "3"})]
    for streams in (True, False):
        body = {"model": "mini", "messages": [ASKED], "stream": streams}
        reply = client.post("/api/chat", json=body)
        assert (reply.status_code, reply.json()) == (429, {"error": "ask again"})
        assert reply.headers["retry-after"] == "3"


def test_a_failure_in_a_stream_is_its_last_line(client: TestClient, server: FakeServer) -> None:
    server.told = [AnswerToken("a"), RequestError(500, "server_error", "the model failed")]
    server.wait_s = 0.1  # so that the reply has begun
    *told, last = lines(client.post("/api/chat", json={"model": "mini", "messages": [ASKED]}))
    assert [part["message"]["content"] for part in told] == ["a"]
    assert last == {"error": "the model failed"}


@pytest.mark.parametrize("path", ["chat", "generate"])
def test_a_model_is_loaded_and_unloaded_by_an_empty_request(
    client: TestClient, server: FakeServer, path: str
) -> None:
    assert client.get("/api/ps").json() == {"models": []}
    loaded = client.post(f"/api/{path}", json={"model": "mini", "keep_alive": "10m"}).json()
    assert (loaded["done"], loaded["done_reason"]) == (True, "load")
    assert server.models.leased == [600]
    (running,) = client.get("/api/ps").json()["models"]
    assert running["name"] == running["model"] == "mini:latest"
    assert running["context_length"] == 1024
    assert running["size_vram"] == 0
    unloaded = client.post(f"/api/{path}", json={"model": "mini", "keep_alive": 0}).json()
    assert unloaded["done_reason"] == "unload"
    assert client.get("/api/ps").json() == {"models": []}
    assert not server.asked


@pytest.mark.parametrize(("keep_alive_s", "least_days"), [(300.0, 0), (-1.0, 365), (3.2e9, 365)])
def test_until_when_a_model_stays(
    client: TestClient, server: FakeServer, keep_alive_s: float, least_days: int
) -> None:
    model = server.models.find("mini")
    model.pipeline, model.users, model.keep_alive_s = cast(Any, object()), 1, keep_alive_s
    (running,) = client.get("/api/ps").json()["models"]
    stays = datetime.fromisoformat(running["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=least_days) < stays < timedelta(days=365 * 120)


def test_a_body_that_is_no_json(client: TestClient) -> None:
    for path in ("chat", "generate", "show", "pull"):
        for body in (b"", b"{", b"[]", b'"mini"', b"\xff"):
            reply = client.post(f"/api/{path}", content=body)
            assert reply.status_code == 400
            assert "body" in reply.json()["error"]
