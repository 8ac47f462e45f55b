import re
from html.parser import HTMLParser

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from edge_et.serve.page_files import page_file_routes

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
ASSETS = ("/edge-et/page.css", "/edge-et/page.js")


@pytest.fixture
def client() -> TestClient:
    async def other(http: Request) -> Response:
        return PlainTextResponse("Ollama is running")

    return TestClient(Starlette(routes=[*page_file_routes(), Route("/", other)]))


@pytest.mark.parametrize(
    "accept",
    [BROWSER["accept"], "text/html", "TEXT/HTML;q=0.9, */*", "application/json, text/html"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_browser_gets_the_page(client: TestClient, accept: str, method: str) -> None:
    reply = client.request(method, "/", headers={"accept": accept})
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert reply.headers["vary"] == "Accept"
    assert ("<!doctype html>" in reply.text) == (method == "GET")


@pytest.mark.parametrize("accept", ["*/*", "", "application/json", "text/plain", "text/html5"])
def test_a_program_gets_what_it_compares(client: TestClient, accept: str) -> None:
    assert client.get("/", headers={"accept": accept}).text == "Ollama is running"
    head = client.head("/", headers={"accept": accept})
    assert head.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("path", "kind"), [("/edge-et/page.css", "css"), ("/edge-et/page.js", "javascript")]
)
def test_script_and_style_are_files_of_their_own(client: TestClient, path: str, kind: str) -> None:
    assert client.get(path).headers["content-type"] == f"text/{kind}; charset=utf-8"


@pytest.mark.parametrize("path", ["/", *ASSETS])
def test_no_other_code_runs_and_nobody_else_is_asked(client: TestClient, path: str) -> None:
    headers = client.get(path, headers=BROWSER).headers
    rules = dict(
        rule.strip().split(" ", 1) for rule in headers["content-security-policy"].split(";")
    )
    assert rules == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' blob: data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("path", ["/", *ASSETS])
def test_a_file_that_is_known_is_not_sent_again(client: TestClient, path: str) -> None:
    first = client.get(path, headers=BROWSER)
    assert first.headers["cache-control"] == "no-cache"
    known = {**BROWSER, "if-none-match": first.headers["etag"]}
    again = client.get(path, headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
    assert client.get(path, headers={**BROWSER, "if-none-match": '"x"'}).status_code == 200


class Page(HTMLParser):
    """What stands in the attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]


def test_all_of_it_comes_from_here(client: TestClient) -> None:
    page = Page(client.get("/", headers=BROWSER).text)
    names = {name for name, _ in page.attributes}
    assert not [name for name in names if name == "style" or name.startswith("on")]
    links = {value for name, value in page.attributes if name in ("src", "href")}
    # Relative, so that a proxy may put it under a path of its own.
    assert {link for link in links if not link.startswith("data:")} == {
        path.removeprefix("/") for path in ASSETS
    }
    for path in ASSETS:
        assert "://" not in client.get(path).text, path


def test_the_script_finds_all_that_it_names(client: TestClient) -> None:
    page = Page(client.get("/", headers=BROWSER).text)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    named = re.findall(r'\$\("([\w-]+)"\)', client.get("/edge-et/page.js").text)
    assert named
    assert set(named) <= set(ids)
