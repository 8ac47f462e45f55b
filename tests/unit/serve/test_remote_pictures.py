import asyncio
import http.server
import socket
import threading
from typing import Any

import pytest

from edge_et.serve import remote_pictures
from edge_et.serve.errors import RequestError
from edge_et.serve.settings import ServeSettings

ALLOWED = ServeSettings(image_hosts=("pictures.example",))


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Let every host have some addresses; return a list of those that are connected to."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses]

    def create_connection(address: tuple[str, int], **_: Any) -> None:
        asked.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(remote_pictures.socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(remote_pictures.socket, "create_connection", create_connection)
    return asked


def fetch(url: str, settings: ServeSettings = ALLOWED) -> None:
    with pytest.raises(RequestError) as raised:
        asyncio.run(remote_pictures.fetch_picture(url, settings))
    assert (raised.value.status, raised.value.code) == (400, "invalid_image")
    assert "8.8" not in raised.value.message


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example/a.png",
        "http://pictures.example.other.example/a.png",
        "http://pictures.example@other.example/a.png",
        "http://user@pictures.example/a.png",
        "http://8.8.8.8/a.png",
        "http://pictures.example:99999/a.png",
    ],
)
def test_other_hosts_are_not_asked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolve_to(monkeypatch, "8.8.8.8")
    fetch(url)
    assert not asked


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "192.168.1.1",
        "169.254.0.1",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:10.0.0.1",
    ],
)
def test_an_allowed_host_may_not_lead_home(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolve_to(monkeypatch, "8.8.8.8", address)
    fetch("http://pictures.example/a.png")
    assert not asked


def test_what_was_resolved_is_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolve_to(monkeypatch, "8.8.8.8", "8.8.4.4")
    fetch("https://pictures.example/a.png")
    assert asked == ["8.8.8.8"]


def test_redirects_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """They led llama-server to hosts that nobody had looked at (llama.cpp#25002)."""
    asked: list[str] = []

    class Redirects(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/other.png")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(remote_pictures, "_public_address", lambda host, port: "127.0.0.1")
    with http.server.HTTPServer(("127.0.0.1", 0), Redirects) as host:
        threading.Thread(target=host.serve_forever, args=(0.02,), daemon=True).start()
        fetch(f"http://pictures.example:{host.server_port}/a.png")
        host.shutdown()
    assert asked == ["/a.png"]


def test_a_host_that_goes_on_for_ever_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    class Trickles(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            while not over.wait(0.02):
                self.wfile.write(b"x")

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(remote_pictures, "_public_address", lambda host, port: "127.0.0.1")
    monkeypatch.setattr(remote_pictures, "TIMEOUT_S", 0.2)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Trickles) as host:
        threading.Thread(target=host.serve_forever, args=(0.02,), daemon=True).start()
        fetch(f"http://pictures.example:{host.server_port}/a.png")
        over.set()
        host.shutdown()
