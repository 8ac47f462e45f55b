import logging
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from tiny.cameras import MJPEG_HEAD, PASSWORD, basic, free_port, jpeg, part, plain, served

import edge_et.camera.mjpeg as mjpeg
import edge_et.camera.reconnecting as reconnecting
from edge_et.camera.latest_frame import Frames
from edge_et.camera.sources import open_source
from edge_et.cancellation import CancelToken
from edge_et.errors import CameraError, ImageDecodeError

PICTURES = [jpeg(plain(value)) for value in (10, 90, 170)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnecting, "FIRST_WAIT_S", 0.02)


@pytest.fixture
def stop() -> Iterator[CancelToken]:
    """A token that ends a test which would wait forever."""
    token = CancelToken()
    timer = threading.Timer(10, token.cancel)
    timer.start()
    yield token
    timer.cancel()


def frames_of(url: str, stop: CancelToken) -> Frames:
    return open_source(url)(stop)


def value_of(item: object) -> int:
    assert callable(item), item
    return round(float(np.mean(item())))


def send_all(number: int, request: str, send: Any, ending: threading.Event) -> None:
    send(MJPEG_HEAD + b"".join(map(part, PICTURES)))


def test_frames_come_as_they_were_sent(stop: CancelToken) -> None:
    with (
        served(send_all) as server,
        closing(frames_of(f"http://127.0.0.1:{server.port}/video?x=1", stop)) as frames,
    ):
        assert [value_of(next(frames)) for _ in range(3)] == [10, 90, 170]
    assert server.requests[0].startswith("GET /video?x=1 HTTP/1.1")


@pytest.mark.parametrize(
    ("head", "parts"),
    [
        (MJPEG_HEAD, [part(each, with_length=False) for each in PICTURES]),
        (MJPEG_HEAD.replace(b"boundary=frame", b'boundary="--frame"'), map(part, PICTURES)),
        (MJPEG_HEAD.replace(b"boundary=frame", b"boundary=--frame"), map(part, PICTURES)),
        (MJPEG_HEAD, [b"a preamble\r\n", *map(part, PICTURES)]),
        (MJPEG_HEAD, [b"--frame\r\n\r\n" + each + b"\r\n" for each in PICTURES]),
        (MJPEG_HEAD, [b"--frame\n\n" + each + b"\n" for each in PICTURES]),
    ],
    ids=[
        *("no lengths", "quoted boundary", "boundary with dashes", "preamble"),
        *("no headers", "line feeds alone"),
    ],
)
def test_what_cameras_make_of_the_format_is_read(
    head: bytes, parts: Any, stop: CancelToken
) -> None:
    sent = head + b"".join(parts) + b"--frame\r\n"

    def script(number: int, request: str, send: Any, ending: threading.Event) -> None:
        for start in range(0, len(sent), 100):  # in pieces
            send(sent[start : start + 100])

    with (
        served(script) as server,
        closing(frames_of(f"http://127.0.0.1:{server.port}/", stop)) as frames,
    ):
        assert [value_of(next(frames)) for _ in range(3)] == [10, 90, 170]


def test_chunks_are_put_together(stop: CancelToken) -> None:
    """HTTP/1.1 cuts a response of unknown length into chunks."""
    sent = b"".join(map(part, PICTURES))

    def script(number: int, request: str, send: Any, ending: threading.Event) -> None:
        send(MJPEG_HEAD.replace(b"Connection: close", b"Transfer-Encoding: chunked"))
        for start in range(0, len(sent), 77):
            chunk = sent[start : start + 77]
            send(b"%x\r\n%s\r\n" % (len(chunk), chunk))

    with (
        served(script) as server,
        closing(frames_of(f"http://127.0.0.1:{server.port}/", stop)) as frames,
    ):
        assert [value_of(next(frames)) for _ in range(3)] == [10, 90, 170]
        assert isinstance(next(frames), CameraError)  # cut off between two chunks


@pytest.mark.parametrize("wrong", ["half a picture", "a length that is too short"])
def test_a_damaged_part_spoils_no_other(wrong: str, stop: CancelToken) -> None:
    damaged = part(PICTURES[1][:300])
    if wrong == "a length that is too short":
        damaged = b"--frame\r\nContent-Length: 100\r\n\r\n" + PICTURES[1] + b"\r\n"

    def script(number: int, request: str, send: Any, ending: threading.Event) -> None:
        send(MJPEG_HEAD + part(PICTURES[0]) + damaged + part(PICTURES[2]))

    with (
        served(script) as server,
        closing(frames_of(f"http://127.0.0.1:{server.port}/", stop)) as frames,
    ):
        first, second, third = (next(frames) for _ in range(3))
    assert (value_of(first), value_of(third)) == (10, 170)
    with pytest.raises(ImageDecodeError):
        value_of(second)


def test_a_stream_that_ends_or_stalls_is_told_and_comes_back(
    stop: CancelToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mjpeg, "STALLED_S", 0.3)

    def script(number: int, request: str, send: Any, ending: threading.Event) -> None:
        send(MJPEG_HEAD + part(PICTURES[number]))
        while number == 1 and not ending.wait(0.05):
            send(b"-")  # a byte now and then is no frame

    with (
        served(script) as server,
        closing(frames_of(f"http://127.0.0.1:{server.port}/", stop)) as frames,
    ):
        items = [next(frames) for _ in range(5)]
    assert [value_of(each) for each in items[::2]] == [10, 90, 170]
    told = [str(each).split(": ")[1].partition(";")[0] for each in items[1::2]]
    assert told == ["it ended the connection", "no frame for 0 s"]


def test_the_wait_grows_and_begins_anew_behind_a_frame(
    stop: CancelToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(reconnecting, "FIRST_WAIT_S", 1.0)
    monkeypatch.setattr(reconnecting, "pause", lambda seconds, stop: waits.append(seconds))
    monkeypatch.setattr("random.uniform", lambda low, high: 1.0)

    def connect(stop: CancelToken) -> Iterator[Any]:
        if len(waits) == 8:
            yield "a frame"
        raise reconnecting.ConnectionLostError("gone")

    frames = reconnecting.reconnecting(connect, "camera", stop)  # type: ignore[arg-type]
    for _ in range(11):
        next(frames)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 1]


@pytest.mark.parametrize("scheme", ["Basic", "Digest"])
def test_user_and_password_are_told_when_asked_for(scheme: str, stop: CancelToken) -> None:
    details = ', nonce="n", qop="auth"' if scheme == "Digest" else ""
    refused = (
        f'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: {scheme} realm="c"{details}\r\n'
        "Content-Length: 0\r\nConnection: close\r\n\r\n"
    )

    def script(number: int, request: str, send: Any, ending: threading.Event) -> None:
        if f"Authorization: {scheme}" not in request:
            send(refused.encode())
        else:
            send_all(number, request, send, ending)

    with (
        served(script) as server,
        closing(frames_of(f"http://us%40er:{PASSWORD}@127.0.0.1:{server.port}/", stop)) as frames,
    ):
        assert value_of(next(frames)) == 10
    if scheme == "Basic":
        assert basic("us@er", PASSWORD) in server.requests[-1]
    else:
        assert 'username="us@er"' in server.requests[-1]
        assert PASSWORD not in server.requests[-1]


BASIC = 'Basic realm="c"'
DIGEST = 'Digest realm="c", nonce="n", qop="auth"'


@pytest.mark.parametrize(
    ("offers", "answered"),
    [
        ([BASIC, DIGEST], "Digest"),
        (["Negotiate", DIGEST, BASIC], "Digest"),
        ([f"{DIGEST}, algorithm=SHA-256", f"{DIGEST}, algorithm=MD5"], "Digest"),
        ([f"{DIGEST}, algorithm=SHA-256", BASIC], "Basic"),
        ([f"{DIGEST}, algorithm=SHA-256"], None),
        (["Bearer"], None),
    ],
)
def test_of_what_a_camera_offers_that_is_taken_which_can_be_answered(
    offers: list[str], answered: str | None, stop: CancelToken
) -> None:
    fields = "".join(f"WWW-Authenticate: {offer}\r\n" for offer in offers)

    def script(number: int, request: str, send: Any, ending: threading.Event) -> None:
        if "Authorization: " in request:
            send_all(number, request, send, ending)
        else:
            head = f"HTTP/1.1 401 Unauthorized\r\n{fields}Connection: close\r\n"
            send(f"{head}Content-Length: 0\r\n\r\n".encode())

    with (
        served(script) as server,
        closing(frames_of(f"http://me:{PASSWORD}@127.0.0.1:{server.port}/", stop)) as frames,
    ):
        if answered is None:
            with pytest.raises(CameraError, match="in a way that is not known here"):
                next(frames)
        else:
            assert value_of(next(frames)) == 10
            assert f"Authorization: {answered} " in server.requests[-1]


@pytest.mark.parametrize(
    ("status", "told"),
    [("401 Unauthorized", "user or password are missing or wrong"), ("404 Not Found", "404")],
)
def test_what_the_camera_refuses_is_an_error_without_secrets(
    status: str, told: str, stop: CancelToken, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def script(number: int, request: str, send: Any, ending: threading.Event) -> None:
        head = f'HTTP/1.1 {status}\r\nWWW-Authenticate: Basic realm="{PASSWORD}"\r\n'
        send(f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode())

    with served(script) as server:
        frames = frames_of(f"http://me:{PASSWORD}@127.0.0.1:{server.port}/{PASSWORD}", stop)
        with pytest.raises(CameraError, match=told) as caught:
            next(frames)
    assert caught.value.source == f"http://127.0.0.1:{server.port}"
    assert PASSWORD not in str(caught.value) + caplog.text
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_camera_that_worked_is_waited_for_though_it_refuses(stop: CancelToken) -> None:
    """While it starts, a camera may refuse what it gives later."""

    def script(number: int, request: str, send: Any, ending: threading.Event) -> None:
        if number == 1:
            send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            send(MJPEG_HEAD + part(PICTURES[0]))

    with (
        served(script) as server,
        closing(frames_of(f"http://127.0.0.1:{server.port}/", stop)) as frames,
    ):
        items = [next(frames) for _ in range(4)]
    assert [isinstance(each, CameraError) for each in items] == [False, True, True, False]


@pytest.mark.parametrize("status", ["408 Request Timeout", "429 Too Many Requests", "503 Busy"])
def test_a_camera_that_is_busy_at_first_is_asked_again(status: str, stop: CancelToken) -> None:
    def script(number: int, request: str, send: Any, ending: threading.Event) -> None:
        if number == 0:
            send(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        else:
            send_all(number, request, send, ending)

    with (
        served(script) as server,
        closing(frames_of(f"http://127.0.0.1:{server.port}/", stop)) as frames,
    ):
        assert status[:3] in str(next(frames))
        assert value_of(next(frames)) == 10


def test_nobody_there_is_told_without_secrets(
    stop: CancelToken, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with closing(frames_of(f"http://me:{PASSWORD}@127.0.0.1:{free_port()}/", stop)) as frames:
        lost = next(frames)
    assert isinstance(lost, CameraError)
    assert "connection refused" in str(lost)
    assert PASSWORD not in str(lost) + caplog.text


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", "text/html"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "no stream of multipart/x-mixed-replace"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: multipart/mixed\r\n\r\n", "multipart/mixed"),
    ],
)
def test_what_is_no_stream_is_an_error(head: bytes, told: str, stop: CancelToken) -> None:
    def script(number: int, request: str, send: Any, ending: threading.Event) -> None:
        send(head)

    with served(script) as server:
        frames = frames_of(f"http://127.0.0.1:{server.port}/", stop)
        with pytest.raises(CameraError, match=told):
            next(frames)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "does not speak HTTP"),
        (MJPEG_HEAD + b"x" * 3000, "a frame has more than 2000 bytes"),
        (MJPEG_HEAD + b"--frame\r\nContent-Length: 999999999\r\n\r\n", "more than 2000 bytes"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "status 302"),
    ],
    ids=["another protocol", "no delimiter", "too long", "a redirect"],
)
def test_what_is_sent_instead_of_frames_is_bounded_and_told(
    answer: bytes, told: str, stop: CancelToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mjpeg, "MOST_BYTES", 2000)

    def script(number: int, request: str, send: Any, ending: threading.Event) -> None:
        send(answer)

    with (
        served(script) as server,
        closing(frames_of(f"http://127.0.0.1:{server.port}/", stop)) as frames,
    ):
        lost = next(frames)
    assert isinstance(lost, CameraError)
    assert told in str(lost)


def test_stopping_hangs_up_at_once(stop: CancelToken) -> None:
    begun = threading.Event()

    def script(number: int, request: str, send: Any, ending: threading.Event) -> None:
        send(MJPEG_HEAD + part(PICTURES[0]))
        begun.set()
        ending.wait()

    with served(script) as server:
        items: list[object] = []
        frames = frames_of(f"http://127.0.0.1:{server.port}/", stop)
        thread = threading.Thread(target=lambda: items.extend(frames))
        thread.start()
        assert begun.wait(10)
        stop.cancel()
        thread.join(5)  # half of what a stall takes
        assert not thread.is_alive()
    assert len(items) <= 1
