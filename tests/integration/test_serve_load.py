"""Many clients at once, some of which hang up or send nonsense: 200 requests to the mini."""

import base64
import random
import statistics
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from tiny.memory import resident_bytes
from tiny.places import ROOT
from tiny.server import serving

import edge_et

TRIMMED_AFTER_S = 12
CLIENTS, REQUESTS, HANGING_UP, BAD = 16, 200, 20, 20
PICTURES = [ROOT / "examples" / "cat.png", ROOT / "examples" / "coffee.png"]
QUESTIONS = ["What is this?", "What color is it?", "Is there a dog?", "Where is the cat?"]


def body_of(picture: Path, question: str) -> dict[str, Any]:
    url = "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()
    parts = [{"type": "text", "text": question}, {"type": "image_url", "image_url": {"url": url}}]
    return {"messages": [{"role": "user", "content": parts}]}


@pytest.mark.slow
def test_every_client_that_stays_gets_its_answer() -> None:
    asked = [(picture, question) for picture in PICTURES for question in QUESTIONS]
    with edge_et.load() as pipe:
        expected = {each: pipe.answer(*each).text for each in asked}
    chance = random.Random(0)
    kinds = ["hangs up"] * HANGING_UP + ["bad"] * BAD
    kinds += ["stays"] * (REQUESTS - len(kinds))
    chance.shuffle(kinds)
    requests = [(kind, chance.choice(asked), chance.uniform(0.01, 1)) for kind in kinds]
    seconds: list[float] = []
    wrong: list[str] = []

    def work(address: str, left: list[Any]) -> None:
        while left:
            try:
                kind, each, patience_s = left.pop()
            except IndexError:  # another client was faster
                return
            body: dict[str, Any] = {**body_of(*each), "stream": False}
            if kind == "bad":
                body["messages"] = [{"role": "user", "content": [{"type": "image_url"}]}]
            start = time.perf_counter()
            try:
                reply = httpx.post(
                    f"{address}/v1/chat/completions",
                    json=body,
                    timeout=patience_s if kind == "hangs up" else 120,
                )
            except httpx.TimeoutException:
                if kind != "hangs up":
                    wrong.append("nobody answered")
                continue
            if kind == "bad":
                if reply.status_code != 400:
                    wrong.append(reply.text)
                continue
            if reply.status_code != 200:
                wrong.append(reply.text)
                continue
            text = reply.json()["choices"][0]["message"]["content"]
            if text != expected[each]:
                wrong.append(f"{each}: {text}")
            seconds.append(time.perf_counter() - start)

    with serving("--deadline-s", "600") as served:
        for picture, question in asked:
            url = f"{served.address}/v1/chat/completions"
            httpx.post(url, json=body_of(picture, question), timeout=60)
        taken = []
        for half in (requests[: REQUESTS // 2], requests[REQUESTS // 2 :]):
            clients = [
                threading.Thread(target=work, args=(served.address, half)) for _ in range(CLIENTS)
            ]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
            time.sleep(TRIMMED_AFTER_S)
            taken.append(resident_bytes(served.process.pid))
        metrics = httpx.get(f"{served.address}/metrics").text
    assert not wrong, wrong[:3]
    assert len(seconds) >= REQUESTS - HANGING_UP - BAD
    assert "edge_et_requests_under_way 0.0" in metrics
    twentieths = statistics.quantiles(seconds, n=20)
    print(f"p50 {twentieths[9]:.2f} s, p95 {twentieths[18]:.2f} s, {CLIENTS} clients")
    print("memory after each half:", *(f"{each / 1e6:.0f} MB" for each in taken))
    assert taken[1] < taken[0] * 1.05
