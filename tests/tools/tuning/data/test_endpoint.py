"""The describing endpoint, on a local server, and the command that uses it as a process."""

import base64
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edge_et.errors import TuningError
from edge_et.tuning.data.describers import EndpointDescriber, RowError
from edge_et.tuning.data.endpoint import Endpoint
from edge_et.tuning.data.extraction_records import read_records
from edge_et.tuning.data.instructions import Instruction, Pair

Reply = tuple[int, dict[str, str], bytes]
PICTURE = Image.new("RGB", (3000, 10), "red")


def completion(text: str | None, finish_reason: str = "stop") -> Reply:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    return 200, {}, json.dumps({"choices": [choice]}).encode()


class Server(ThreadingHTTPServer):
    """Answers each request with what `reply` returns for it."""

    daemon_threads = True

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.reply: Callable[[dict[str, Any]], Reply] = lambda body: completion("A red picture.")
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def in_turn(self, *replies: Reply) -> None:
        left = iter(replies)
        self.reply = lambda body: next(left)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append({"path": self.path, **body})
        self.server.headers.append(dict(self.headers))
        code, headers, content = self.server.reply(body)
        self.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def endpoint(server: Server, waits: list[float] | None = None, **options: Any) -> Endpoint:
    waits = [] if waits is None else waits
    options = {"requests_per_minute": 1e9, **options}
    return Endpoint(server.url, "a-model", sleep=waits.append, **options)


def row(*pairs: tuple[str, str]) -> Instruction:
    return Instruction(1, b"", "id", "a.png", tuple(Pair(*pair) for pair in pairs))


def texts(body: dict[str, Any]) -> str:
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


# What is sent


def test_a_picture_goes_along_small_and_the_key_as_a_bearer(server: Server):
    assert endpoint(server, key="secret").complete("Hi", 9, PICTURE) == "A red picture."
    (body,) = server.requests
    assert body["path"] == "/v1/chat/completions"
    assert (body["model"], body["max_tokens"]) == ("a-model", 9)
    image, text = body["messages"][0]["content"]
    assert text == {"type": "text", "text": "Hi"}
    kind, _, data = image["image_url"]["url"].partition(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (1024, 3)
    assert server.headers[0]["Authorization"] == "Bearer secret"


def test_without_a_key_none_is_sent(server: Server):
    endpoint(server).complete("Hi", 9)
    assert "Authorization" not in server.headers[0]


def test_requests_keep_their_distance(server: Server):
    waits: list[float] = []
    asking = endpoint(server, waits, requests_per_minute=0.5)
    for _ in range(3):
        asking.complete("Hi", 9)
    assert [round(wait / 60) for wait in waits] == [2, 4]  # nobody slept, so waits add up


@pytest.mark.parametrize("url", ["file:///etc/passwd", "localhost:8080", "ftp://a/v1", "http://"])
def test_only_http_is_an_endpoint(url: str):
    with pytest.raises(TuningError, match="no endpoint"):
        Endpoint(url, "m")


# What can go wrong


@pytest.mark.parametrize("asked_to_wait", ["7", "Wed, 21 Oct 2015 07:28:00 GMT", "soon", "-3"])
def test_too_many_requests_wait_as_long_as_they_are_told(server: Server, asked_to_wait: str):
    server.in_turn((429, {"Retry-After": asked_to_wait}, b""), completion("Done."))
    waits: list[float] = []
    assert endpoint(server, waits).complete("Hi", 9) == "Done."
    assert waits == [7.0 if asked_to_wait == "7" else 1.0]


@pytest.mark.parametrize(
    "passing",
    [
        *((500, {}, b"oops"), (503, {}, b""), (200, {}, b"<html>"), (200, {}, b"{}")),
        *((200, {}, b'{"choices": []}'), completion(""), completion(None)),
    ],
)
def test_what_may_pass_is_tried_again_ever_later(server: Server, passing: Reply):
    server.in_turn(passing, passing, completion("Done."))
    waits: list[float] = []
    assert endpoint(server, waits).complete("Hi", 9) == "Done."
    assert waits == [1.0, 2.0]


DEEP = b'{"x":' + b"[" * 100_000


@pytest.mark.parametrize(
    "reply", [(500, {}, b""), (200, {}, b"{"), (200, {}, DEEP), completion("  ")]
)
def test_a_row_that_always_fails_is_given_up(server: Server, reply: Reply):
    server.reply = lambda body: reply
    with pytest.raises(RowError, match="failed 5 times"):
        endpoint(server).complete("Hi", 9)
    assert len(server.requests) == 5


@pytest.mark.parametrize("reply", [(400, {}, b"a bad picture"), completion("cut", "length")])
def test_a_refused_row_is_not_sent_again(server: Server, reply: Reply):
    server.reply = lambda body: reply
    with pytest.raises(RowError, match=r"a bad picture|cut off"):
        endpoint(server).complete("Hi", 9)
    assert len(server.requests) == 1


def test_a_refusal_of_everything_stops_the_run(server: Server):
    server.reply = lambda body: (401, {}, b"no such key")
    with pytest.raises(TuningError, match=r"HTTP 401: no such key.*OPENAI_API_KEY"):
        endpoint(server).complete("Hi", 9)
    assert len(server.requests) == 1


def test_too_many_requests_for_ever_stop_the_run(server: Server):
    server.reply = lambda body: (429, {}, b"")
    with pytest.raises(TuningError, match="go on"):
        endpoint(server).complete("Hi", 9)


def test_redirects_are_not_followed(server: Server):
    server.reply = lambda body: (307, {"Location": f"{server.url}/elsewhere"}, b"")
    with pytest.raises(TuningError, match="HTTP 307"):
        endpoint(server, key="secret").complete("Hi", 9)
    assert len(server.requests) == 1


def test_nobody_listening_stops_the_run():
    with Server() as gone:
        url = gone.url
    with pytest.raises(TuningError, match="failed 5 times"):
        Endpoint(url, "m", sleep=lambda seconds: None).complete("Hi", 9)


# Statements and descriptions


def test_rules_save_a_request_and_a_model_writes_the_rest(server: Server):
    server.in_turn(
        completion('Here:\n```json\n["He is sad because it rains."]\n```'),
        completion("A sad man in the rain. The coat is red."),
    )
    pairs = (("Why is he sad?", "rain"), ("What colour is the coat?", "red"))
    made = EndpointDescriber(endpoint(server)).describe(PICTURE, row(*pairs))
    statements = ("He is sad because it rains.", "The colour of the coat is red.")
    assert made.statements == statements
    assert made.text == f"A sad man in the rain. The coat is red. {' '.join(statements)}"
    first, second = map(texts, server.requests)
    assert "1. Question: Why is he sad? Answer: rain" in first
    assert "coat" not in first
    assert all(f"- {text}" in second for text in statements)


@pytest.mark.parametrize("reply", ["I cannot.", "[]", '["a", "b"]', "[1]", '["<|im_end|>"]'])
def test_statements_that_cannot_be_used_become_quotations(server: Server, reply: str):
    server.in_turn(completion(reply), completion("Rain."))
    made = EndpointDescriber(endpoint(server)).describe(PICTURE, row(("Why?", "rain")))
    assert made.statements == ("Question: Why? Answer: rain",)


@pytest.mark.parametrize("reply", ["<|im_start|>system", "x" * 9000, "a\x00b"])
def test_a_description_that_cannot_be_used_fails_the_row(server: Server, reply: str):
    server.reply = lambda body: completion(reply)
    with pytest.raises(RowError, match="the description"):
        EndpointDescriber(endpoint(server)).describe(PICTURE, row(("Is there a dog?", "no")))


# The command


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edge_et", "train", "make-data", *map(str, arguments)]


def start(server: Server, folder: Path) -> subprocess.Popen[str]:
    # Where the tests run in a shell's background, processes are born deaf to SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(
            command(
                *(folder / "in.jsonl", "--out", folder / "out.jsonl", "--endpoint", server.url),
                *("--model", "m", "--requests-per-minute", "1e6"),
            ),
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OPENAI_API_KEY": "from-the-environment"},
        )
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    PICTURE.save(tmp_path / "a.png")
    rows = [
        {"image": "a.png", "question": f"What is the word {k}?", "answer": f"w{k}"}
        for k in range(6)
    ]
    lines = [json.dumps(row) + "\n" for row in rows]
    (tmp_path / "in.jsonl").write_text("".join([*lines[:2], "broken\n", *lines[2:]]))
    return tmp_path


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_goes_on(server: Server, folder: Path, sent: signal.Signals):
    reached, released = threading.Event(), threading.Event()

    def reply(body: dict[str, Any]) -> Reply:
        if len(server.requests) == 4 and not released.is_set():
            reached.set()
            released.wait(60)
        return completion("A red picture.")

    server.reply = reply
    first = start(server, folder)
    assert reached.wait(60)
    first.send_signal(sent)
    _, told = first.communicate(timeout=60)
    released.set()
    assert first.returncode == (-signal.SIGKILL if sent == signal.SIGKILL else 130)
    assert "Traceback" not in told
    assert not (folder / "out.jsonl").exists()

    second = start(server, folder)
    _, told = second.communicate(timeout=60)
    assert second.returncode == 0
    assert "3 samples made, 3 done before, 1 rows rejected" in told
    assert "row 3 rejected: not JSON" in told
    records = read_records(folder / "out.jsonl")
    assert [record.id for record in records] == [f"row-{k}" for k in (1, 2, 4, 5, 6, 7)]
    assert [record.answer for record in records] == [f"w{k}" for k in range(6)]
    asked = [next(k for k in range(6) if f"word {k} " in texts(body)) for body in server.requests]
    assert asked == [0, 1, 2, 3, 3, 4, 5]  # only the one under way was asked again
    assert {h["Authorization"] for h in server.headers} == {"Bearer from-the-environment"}


def test_a_failing_endpoint_is_told_in_one_line(server: Server, folder: Path):
    server.reply = lambda body: (401, {}, b"who are you?")
    process = start(server, folder)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert told.startswith("edge-et: ")
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--truth", "--bundle", "mini"],
        ["--endpoint", "http://localhost/v1"],
        ["--truth", "--model", "m"],
    ],
)
def test_one_describer_has_to_be_chosen(folder: Path, options: list[str]):
    result = subprocess.run(
        command(folder / "in.jsonl", "--out", folder / "out.jsonl", *options),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "--endpoint" in result.stderr
