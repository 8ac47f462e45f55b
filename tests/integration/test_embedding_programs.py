"""The programs of docs/embedding.md, as they stand there, over the mini."""

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image, ImageEnhance
from tiny.pages import EMBEDDING, ON_ONE_CPU, programs
from tiny.places import EXAMPLES

PATIENCE_S = 120
MAX_UPLOAD_BYTES = 10 * 2**20
RUN_ON_ONE_CPU = f"{ON_ONE_CPU}os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"


def jpeg(brightness: float = 1.0, name: str = "cat.png") -> bytes:
    """Return a picture of an example's content; another brightness is another picture."""
    image = ImageEnhance.Brightness(Image.open(EXAMPLES / name).convert("RGB"))
    file = io.BytesIO()
    image.enhance(brightness).save(file, "JPEG")
    return file.getvalue()


def form(picture: bytes, question: str = "What is this?") -> dict[str, Any]:
    """Return what httpx sends as a form."""
    return {"files": {"picture": picture}, "data": {"question": question}}


def says(answer: dict[str, Any], text: str) -> bool:
    """Say whether an answer is this one; nothing is told of one that a busy machine cut."""
    return answer["text"] == text or "deadline" in answer["finish_reasons"].values()


def start(words: list[str], name: str, folder: Path) -> "subprocess.Popen[bytes]":
    """Start Python with a program of the page in its folder; what it prints goes to a file."""
    (folder / name).write_text(programs(EMBEDDING)[name])
    with (folder / "output.txt").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-c", RUN_ON_ONE_CPU, *words],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@contextmanager
def serving(words: list[str], name: str, folder: Path) -> Iterator[str]:
    """Run a server while the block does, and give its address, which it prints."""
    server = start(words, name, folder)
    output = folder / "output.txt"
    try:
        end = time.monotonic() + PATIENCE_S
        while (address := re.search(r"http://127\.0\.0\.1:\d+", output.read_text())) is None:
            assert server.poll() is None, output.read_text()
            assert time.monotonic() < end, output.read_text()
            time.sleep(0.05)
        yield address[0]
        server.terminate()
        server.wait(PATIENCE_S)
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    assert "Traceback" not in output.read_text(), output.read_text()


@pytest.fixture(scope="module")
def fastapi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    words = ["-m", "uvicorn", "--port", "0", "server_fastapi:app"]
    with serving(words, "server_fastapi.py", tmp_path_factory.mktemp("fastapi")) as address:
        yield address


@contextmanager
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=PATIENCE_S) as client:
        yield client


def check_refusals(address: str) -> None:
    """Ask what cannot be answered; a server says why, and goes on."""
    with client(address) as ask:
        wrong = ask.post("/answer", **form(b"no picture"))
        assert (wrong.status_code, "decode the image" in wrong.json()["detail"]) == (422, True)
        wrong = ask.post("/answer", **form(jpeg(), question=" "))
        assert (wrong.status_code, "question" in wrong.json()["detail"]) == (422, True)
        assert ask.post("/answer", **form(bytes(MAX_UPLOAD_BYTES))).status_code == 413
        assert ask.get("/health").json() == {"status": "ok"}


def check_answers(address: str) -> None:
    """Ask two questions at once."""
    asked = [
        (jpeg(), "What is this?", "cat"),
        (jpeg(), "Is there a dog?", "no"),
    ]

    def answer(picture: bytes, question: str, text: str) -> bool:
        with client(address) as ask:
            response = ask.post("/answer", **form(picture, question))
            return response.status_code == 200 and says(response.json(), text)

    with ThreadPoolExecutor(2) as threads:
        assert all(threads.map(answer, *zip(*asked, strict=True)))


def test_fastapi_answers(fastapi: str) -> None:
    check_answers(fastapi)


def test_fastapi_says_what_is_wrong(fastapi: str) -> None:
    check_refusals(fastapi)


def test_fastapi_does_not_read_on_where_no_length_is_told(fastapi: str) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\n'
    body = iter([part, *[bytes(2**20)] * 11, b"\r\n--b--\r\n"])
    with client(fastapi) as ask:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        assert ask.post("/answer", content=body, headers=headers).status_code == 413


async def events(response: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Yield the names and values of server-sent events."""
    name = ""
    async for line in response.aiter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


def test_fastapi_tells_what_happens(fastapi: str) -> None:
    async def ask() -> list[tuple[str, dict[str, Any]]]:
        async with (
            httpx.AsyncClient(base_url=fastapi, timeout=PATIENCE_S) as client,
            client.stream("POST", "/stream", **form(jpeg(0.8))) as response,
        ):
            assert response.headers["content-type"].startswith("text/event-stream")
            return [event async for event in events(response)]

    told = asyncio.run(ask())
    phases = [event["phase"] for name, event in told if name == "Progress"]
    assert {"prefill", "decode"} <= set(phases)
    name, answer = told[-1]
    assert name == "Answer"
    assert says(answer, "cat")
    written = "".join(event["text"] for name, event in told if name == "AnswerToken")
    assert written.strip() == answer["text"]


def test_fastapi_refuses_a_stream_before_it_begins(fastapi: str) -> None:
    with client(fastapi) as ask:
        assert ask.post("/stream", **form(b"no picture")).status_code == 422


def test_fastapi_lets_the_urgent_go_first(fastapi: str) -> None:
    async def ask() -> list[str]:
        done = []
        async with httpx.AsyncClient(base_url=fastapi, timeout=PATIENCE_S) as client:

            async def ask_urgently() -> None:
                assert (await client.post("/urgent", **form(jpeg(0.7)))).status_code == 200
                done.append("urgent")

            async with (
                client.stream("POST", "/stream", **form(jpeg(0.6))) as response,
                asyncio.TaskGroup() as tasks,
            ):
                async for _ in events(response):
                    if not tasks_of_urgent:
                        tasks_of_urgent.append(tasks.create_task(ask_urgently()))
                done.append("ordinary")
        return done

    tasks_of_urgent: list[object] = []
    assert asyncio.run(ask()) == ["urgent", "ordinary"]


def test_fastapi_refuses_too_many_and_forgets_those_who_went_away(fastapi: str) -> None:
    first, second = jpeg(1.1), jpeg(1.2)

    async def ask() -> tuple[set[int], httpx.Response]:
        async with httpx.AsyncClient(base_url=fastapi, timeout=PATIENCE_S) as client:
            async with client.stream("POST", "/stream", **form(first)) as response:
                await anext(events(response))  # this one computes
                calls = [
                    asyncio.ensure_future(client.post("/answer", **form(second))) for _ in range(9)
                ]
                refused, waiting = await asyncio.wait(calls, return_when=FIRST_COMPLETED)
                for call in waiting:
                    call.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)
            responses = [call.result() for call in refused]
            assert all(int(response.headers["Retry-After"]) > 0 for response in responses)
            # It is not noticed at once that they went.
            again = httpx.Response(503)
            while again.status_code == 503:
                again = await client.post("/answer", **form(second))
            return {response.status_code for response in responses}, again

    refused, answered = asyncio.run(ask())
    assert refused == {503}
    assert answered.status_code == 200
    # Had one of those who went away been answered, its picture would be known.
    assert answered.json()["usage"]["vision"]["reused_tokens"] == 0
    assert says(answered.json(), "cat")


def test_flask_answers_under_gunicorn_with_preload(tmp_path: Path) -> None:
    words = ["-m", "gunicorn", "--preload", "--workers", "2", "--threads", "4"]
    words += ["--bind", "127.0.0.1:0", "--graceful-timeout", "1", "server_flask:app"]
    # The server ends before those who still wait for it do.
    with (
        ThreadPoolExecutor(8) as threads,
        serving(words, "server_flask.py", tmp_path) as address,
    ):
        check_answers(address)
        check_refusals(address)

        def ask(number: int) -> int:
            with client(address) as asking:
                return asking.post("/answer", **form(jpeg(0.5 + number / 20))).status_code

        # Two workers answer one each, and two wait for each.
        done, _ = wait([threads.submit(ask, n) for n in range(8)], PATIENCE_S, FIRST_COMPLETED)
        assert {call.result() for call in done} == {503}


def test_the_camera_program_answers_about_the_newest(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    names = [f"{number:02}.jpg" for number in range(12)]
    names[2] = "02-doorbell.jpg"
    for number, name in enumerate(names):
        (frames / name).write_bytes(jpeg(0.8 + number / 40))
    program = start(["camera.py", "frames"], "camera.py", tmp_path)
    try:
        assert program.wait(PATIENCE_S) == 0, (tmp_path / "output.txt").read_text()
    finally:
        if program.poll() is None:
            os.killpg(program.pid, signal.SIGKILL)
            program.wait()
    lines = (tmp_path / "output.txt").read_text().splitlines()
    asked = [line.partition(": ")[0] for line in lines]
    assert asked == sorted(set(asked))
    assert "02-doorbell.jpg" in asked
    assert asked[-1] == "11.jpg"
    assert len(asked) < len(names)
    said = dict(line.split(": ", 1) for line in lines)
    for name in asked[: asked.index("02-doorbell.jpg")]:
        assert "cancelled" in said[name]
    assert said["02-doorbell.jpg"] in ("False", "no answer in time")
