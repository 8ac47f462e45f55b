"""Stand-ins for cameras: Picamera2, and servers of MJPEG and RTSP."""

import base64
import io
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_et.cancellation import CancelToken
from edge_et.image import TileFeatures
from edge_et.llm import Tokenizer
from edge_et.pipeline import ExtractThink
from edge_et.pipeline.models import Models
from tiny.bundle import build_bundle
from tiny.fakes import FakeTower, ForcedKVCache, new_chat_model

PASSWORD = "s3cret-word"
TURNS = ("a ball<|im_end|>", "It is red.\nAnswer:", " red<|im_end|>")


def plain(value: int, height: int = 24, width: int = 32) -> NDArray[np.uint8]:
    """Return a grey picture [H,W,3]."""
    return np.full((height, width, 3), value, np.uint8)


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    """Return a picture as a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG")
    return file.getvalue()


class SlowTower(FakeTower):
    """Tells that a picture is looked at, and waits until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.is_free = threading.Event()
        self.is_free.set()
        self.looking = threading.Semaphore(0)
        self.cancelled = threading.Event()

    def encode(self, tiles: Any, cancel: CancelToken | None = None) -> TileFeatures:
        self.looking.release()
        if cancel is None:
            self.is_free.wait(30)
            return super().encode(tiles)
        with cancel.watch(self.cancelled.set), cancel.watch(self.is_free.set):
            self.is_free.wait(30)
        cancel.check()
        return super().encode(tiles, cancel)


def fake_pipeline(
    folder: Path, tower: FakeTower | None = None, answers: int = 60
) -> tuple[ExtractThink, ForcedKVCache]:
    """Return a pipeline that answers "red", and its KV cache, which can be told to fail."""
    manifest = build_bundle(folder)
    tokenizer = Tokenizer(folder / "tokenizer.json")
    cache = ForcedKVCache(tokenizer, *TURNS * answers)
    models = Models(perceiver=new_chat_model(tokenizer, cache))
    return ExtractThink(manifest, tower=tower or FakeTower(), contexts=[models]), cache


class FakePicamera2:
    """What `picamera2.Picamera2` documents: a configuration, jobs, and arrays of its formats."""

    def __init__(self, format_name: str, array: NDArray[np.uint8], *, started: bool = True) -> None:
        self.started = started
        self.is_stalled = False
        self.jobs: list[Future[NDArray[np.uint8]]] = []
        self._format, self._array = format_name, array

    def camera_configuration(self) -> dict[str, Any]:
        return {"main": {"format": self._format, "size": self._array.shape[1::-1]}}

    def capture_array(self, name: str = "main", wait: bool | None = None) -> Any:
        assert name == "main"
        assert wait is False
        job: Future[NDArray[np.uint8]] = Future()
        self.jobs.append(job)
        if not self.is_stalled:
            job.set_result(self._array.copy())
        return job

    def wait(self, job: Future[NDArray[np.uint8]], timeout: float | None = None) -> Any:
        return job.result(timeout=timeout)

    def go_on(self) -> None:
        self.is_stalled = False
        for job in self.jobs:
            if not job.done():
                job.set_result(self._array.copy())


class Handler(socketserver.StreamRequestHandler):
    """Reads a request and lets the test's script answer."""

    def handle(self) -> None:
        assert isinstance(self.server, Server)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return
            head += line
        self.server.requests.append(head.decode())
        with self.server.counting:
            number = self.server.connections
            self.server.connections += 1
        with suppress(OSError):  # the client hangs up
            self.server.script(number, head.decode(), self.wfile.write, self.server.closing)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, script: Any) -> None:
        self.script = script
        self.requests: list[str] = []
        self.connections = 0
        self.counting = threading.Lock()
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


@contextmanager
def served(script: Any) -> Iterator[Server]:
    """Serve on a port of this machine.

    Args:
        script: is called with the number of the connection, the request, what sends, and an event
            that is set when the server is to end.
    """
    with Server(script) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


MJPEG_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n"
    b"Connection: close\r\n\r\n"
)


def part(content: bytes, *, with_length: bool = True) -> bytes:
    """Return a part of an MJPEG stream."""
    length = f"Content-Length: {len(content)}\r\n" if with_length else ""
    return f"--frame\r\nContent-Type: image/jpeg\r\n{length}\r\n".encode() + content + b"\r\n"


def basic(user: str, password: str) -> str:
    """Return the header that tells user and password."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def transport_stream(pictures: list[NDArray[np.uint8]]) -> bytes:
    """Return pictures as MPEG-2 video in an MPEG transport stream."""
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=25)
        stream.width, stream.height = pictures[0].shape[1], pictures[0].shape[0]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


class RtspHandler(socketserver.StreamRequestHandler):
    """As much of RTSP 1.0 (RFC 2326) as FFmpeg asks for: one stream, interleaved, over TCP."""

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, RtspServer)
        while request := self._read():
            method, headers = request
            server.requests.append(method)
            authorization = headers.get("authorization")
            if server.credentials and authorization != basic(*server.credentials):
                self._reply(headers, "401 Unauthorized", 'WWW-Authenticate: Basic realm="camera"')
            elif method == "OPTIONS":
                self._reply(headers, "200 OK", "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
            elif method == "DESCRIBE":
                sdp = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\n"
                sdp += "a=control:track1\r\n"
                self._reply(headers, "200 OK", "Content-Type: application/sdp", body=sdp)
            elif method == "SETUP":
                transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"
                self._reply(headers, "200 OK", transport)
            elif method == "PLAY":
                self._reply(headers, "200 OK", "Range: npt=0.000-")
                server.connections += 1
                try:
                    self._play(server)
                except OSError:
                    return
                return
            else:
                self._reply(headers, "200 OK")

    def _read(self) -> tuple[str, dict[str, str]] | None:
        line = self.rfile.readline().decode().split()
        if not line:
            return None
        headers = {}
        while field := self.rfile.readline().decode().strip():
            name, _, value = field.partition(":")
            headers[name.lower()] = value.strip()
        return line[0], headers

    def _reply(self, asked: dict[str, str], status: str, *fields: str, body: str = "") -> None:
        lines = [f"RTSP/1.0 {status}", f"CSeq: {asked['cseq']}", "Session: 1", *fields]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.wfile.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())

    def _play(self, server: "RtspServer") -> None:
        stream, size = server.stream, 7 * 188
        for number, start in enumerate(range(0, len(stream), size)):
            rtp = struct.pack(">BBHII", 0x80, 33, number & 0xFFFF, number * 3600, 1)
            packet = rtp + stream[start : start + size]
            self.wfile.write(struct.pack(">BBH", 0x24, 0, len(packet)) + packet)
        server.closing.wait(0 if server.hangs_up else 30)


class RtspServer(socketserver.ThreadingTCPServer):
    """An RTSP camera; it stalls behind its stream, or hangs up."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(
        self,
        stream: bytes,
        *,
        credentials: tuple[str, str] | None = None,
        hangs_up: bool = False,
    ) -> None:
        self.stream, self.credentials, self.hangs_up = stream, credentials, hangs_up
        self.requests: list[str] = []
        self.connections = 0
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", 0), RtspHandler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def __exit__(self, *raised: object) -> None:
        self.closing.set()
        self.shutdown()
        self._thread.join()
        super().__exit__(*raised)


def free_port() -> int:
    """Return a port of this machine on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])
