from collections.abc import Mapping

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from edge_et.serve.metrics import Metrics
from edge_et.serve.safety import Guard
from edge_et.serve.settings import ServeSettings


def client(settings: ServeSettings) -> TestClient:
    async def reply(http: Request) -> Response:
        return JSONResponse({})

    app = Starlette(routes=[Route("/{path:path}", reply)])
    return TestClient(Guard(app, settings, Metrics()))


def status(settings: ServeSettings, headers: Mapping[str, str], path: str = "/asked") -> int:
    return client(settings).get(path, headers={"host": "localhost", **headers}).status_code


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:8890",
        "127.0.0.1",
        "127.0.0.1:8890",
        "[::1]:8890",
        "192.168.1.7",
        "nas.local",
        "NAS.local:80",
        "nas.local.",
    ],
)
def test_hosts_that_are_answered(host: str) -> None:
    settings = ServeSettings(allowed_hosts=("nas.local",))
    assert status(settings, {"host": host}) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "nas.local.evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "nas",
        "localhost@evil.example",
        "[localhost]evil",
    ],
)
def test_a_page_of_another_host_gets_nothing(host: str) -> None:
    settings = ServeSettings(allowed_hosts=("nas.local",))
    assert status(settings, {"host": host}) == 421


@pytest.mark.parametrize(
    ("origins", "headers", "expected"),
    [
        ((), {"origin": "http://localhost"}, 200),
        ((), {"origin": "http://127.0.0.1:8890", "host": "127.0.0.1:8890"}, 200),
        ((), {"origin": "https://NAS.local", "host": "nas.local"}, 200),
        ((), {"origin": "http://localhost:3000"}, 403),
        ((), {"origin": "https://other.example", "host": "127.0.0.1:8890"}, 403),
        ((), {"origin": "null"}, 403),
        ((), {"origin": ""}, 403),
        (("https://other.example",), {"origin": "https://other.example"}, 200),
        (("https://other.example",), {"origin": "https://another.example"}, 403),
        (("*",), {"origin": "https://another.example"}, 200),
    ],
)
def test_pages_that_may_ask(
    origins: tuple[str, ...], headers: dict[str, str], expected: int
) -> None:
    settings = ServeSettings(allowed_hosts=("nas.local",), cors_origins=origins)
    assert status(settings, headers) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"authorization": "Bearer secret"}, 200),
        ({"authorization": "bearer  secret"}, 200),
        ({"x-api-key": "secret"}, 200),
        ({"authorization": "Bearer secre"}, 401),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": "Basic secret"}, 401),
        ({"authorization": "secret"}, 401),
        ({}, 401),
    ],
)
def test_a_key(headers: dict[str, str], expected: int) -> None:
    settings = ServeSettings(api_key="secret")
    assert status(settings, headers) == expected
    assert status(settings, {}, "/health") == 200
    reply = client(settings).get("/asked", headers={"host": "localhost"})
    assert reply.json()["error"]["code"] == "invalid_api_key"


def test_the_page_itself_needs_no_key_and_what_it_asks_does() -> None:
    settings = ServeSettings(api_key="secret")
    browser = {"accept": "text/html"}
    assert status(settings, browser, "/") == 200
    for path in ("/edge-et/page.js", "/edge-et/page.css"):
        assert status(settings, {}, path) == 200
    for path in ("/asked", "/edge-et/ask", "/edge-et/server", "/edge-et/page.js/"):
        assert status(settings, browser, path) == 401
    assert status(settings, {"accept": "*/*"}, "/") == 401
    assert status(settings, {**browser, "host": "evil.example"}, "/") == 421
    assert status(settings, {**browser, "origin": "https://evil.example"}, "/") == 403


def test_no_key_is_asked_for_where_there_is_none() -> None:
    assert status(ServeSettings(), {"authorization": "Bearer anything"}) == 200
