"""A stand-in for the Hugging Face hub: its protocol as huggingface_hub speaks it."""

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = 1000
"""Files of this size and more are in large-file storage, with a SHA-256."""


@dataclass
class Repository:
    """What the hub holds under one name.

    Attributes:
        files: content by name.
        card: metadata of the model card.
        gated: whether files, but not their list, need a token.
    """

    files: dict[str, bytes]
    card: dict[str, Any] = field(default_factory=dict)
    gated: bool = False


class Hub(ThreadingHTTPServer):
    """Serves repositories; each branch `main` is at `COMMIT`.

    Attributes:
        repositories: by `owner/name`.
        sent: bytes of content that went out, by file name.
        asked: method and path of each request.
        stall_after: bytes of one answer after which no more comes; None: all comes.
        lie: content to send instead, by file name.
        tells_sizes: whether descriptions tell the sizes of files; not all mirrors do.
        knows_ranges: whether parts of files can be had.
        junk: what to describe each repository with instead; None: the truth.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.sent: Counter[str] = Counter()
        self.asked: list[str] = []
        self.stall_after: int | None = None
        self.stopped = threading.Event()
        self.lie: dict[str, bytes] = {}
        self.tells_sizes = True
        self.knows_ranges = True
        self.junk: bytes | None = None
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, name: str, folder: Path, **more: Any) -> Repository:
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self.repositories[name] = Repository(files, **more)
        return self.repositories[name]


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def _serve(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.asked.append(f"{self.command} {path}")
        api = re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        match = api or file
        repository = self.server.repositories.get(match[1]) if match else None
        if match is None or repository is None:
            self._fail(401, "RepoNotFound", "Repository not found")
        elif match[2] not in ("main", COMMIT):
            self._fail(404, "RevisionNotFound", "Invalid rev id")
        elif api:
            self._describe(match[1], repository)
        elif repository.gated and "Authorization" not in self.headers:
            self._fail(401, "GatedRepo", "Access to this model is restricted")
        elif match[3] not in repository.files:
            self._fail(404, "EntryNotFound", "Entry not found")
        else:
            self._send_file(match[3], repository.files[match[3]])

    def _describe(self, name: str, repository: Repository) -> None:
        siblings = []
        for file, content in repository.files.items():
            about: dict[str, Any] = {"rfilename": file, "size": len(content), "blobId": "0" * 40}
            if not self.server.tells_sizes:
                about = {"rfilename": file}
            elif len(content) >= LARGE:
                sha256 = hashlib.sha256(content).hexdigest()
                about["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
            siblings.append(about)
        description = {
            "id": name,
            "sha": COMMIT,
            "gated": "manual" if repository.gated else False,
            "cardData": repository.card,
            "siblings": siblings,
        }
        body = json.dumps(description).encode() if self.server.junk is None else self.server.junk
        self._reply(200, {"Content-Type": "application/json"}, body)

    def _send_file(self, name: str, content: bytes) -> None:
        sha256 = hashlib.sha256(content).hexdigest()
        headers = {
            "ETag": f'"{sha256}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
            # Offered as by the real hub; a client that takes it up fails here.
            "X-Xet-Hash": sha256,
            "X-Xet-Refresh-Route": "/api/nowhere",
        }
        if len(content) >= LARGE:
            headers |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{sha256}"'}
        content = self.server.lie.get(name, content)
        code, start, end = 200, 0, len(content)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted and self.server.knows_ranges:
            code, start = 206, int(wanted[1])
            end = min(end, int(wanted[2]) + 1) if wanted[2] else end
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        self._reply(code, headers, content[start:end], name)

    def _fail(self, code: int, error: str, message: str) -> None:
        self._reply(code, {"X-Error-Code": error, "X-Error-Message": message}, b"")

    def _reply(self, code: int, headers: dict[str, str], body: bytes, name: str = "") -> None:
        self.send_response(code)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        limit = self.server.stall_after if name else None
        self.wfile.write(body[:limit])
        if name:
            self.server.sent[name] += len(body[:limit])
        if limit is not None and len(body) > limit:
            self.server.stopped.wait()
            self.close_connection = True

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # the client was killed
            self.close_connection = True

    def log_message(self, *arguments: Any) -> None:
        pass


def use_hub(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do in this process what HF_ENDPOINT and HF_HUB_CACHE do when huggingface_hub is imported."""
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)


@contextmanager
def running_hub() -> Iterator[Hub]:
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.stopped.set()
            hub.shutdown()
            thread.join()
