"""What the server adds to a pipeline's own time: `python scripts/measure_server.py`.

The same picture is asked about again and again, in turns by HTTP and without it, so that it comes
from the cache in both. Told are medians of the first token and of the whole answer.
"""

import argparse
import base64
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import httpx

import edge_et
from edge_et.results import Progress

PICTURE = Path(__file__).resolve().parent.parent / "examples" / "cat.png"
WARMING = 2


def main() -> None:
    """Start a server, load the same bundle here, and ask both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=40)
    samples = parser.parse_args().samples
    served, own = [], []
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_et", "serve", "--port", "0"], stderr=subprocess.PIPE, text=True
    )
    try:
        address = find_address(process)
        with httpx.Client(base_url=address, timeout=60) as client, edge_et.load() as pipe:
            for number in range(samples + WARMING):
                question = f"What is number {number} in this picture?"
                served.append(ask_server(client, question))
                own.append(ask_pipeline(pipe, question))
    finally:
        process.terminate()
        process.wait()
    for part, name in enumerate(("first token", "whole answer")):
        by_http = 1000 * median(sample[part] for sample in served[WARMING:])
        without = 1000 * median(sample[part] for sample in own[WARMING:])
        ratio = by_http / without
        print(f"{name}: {by_http:.1f} ms by HTTP, {without:.1f} without, ratio {ratio:.3f}")


def find_address(process: "subprocess.Popen[str]") -> str:
    """Return where a server listens, as soon as it does."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"http://\S+", line):
            return found.group()
    raise SystemExit("the server did not start")


def ask_server(client: httpx.Client, question: str) -> tuple[float, float]:
    """Return the seconds until the first token, and until the end."""
    url = "data:image/png;base64," + base64.b64encode(PICTURE.read_bytes()).decode()
    parts = [
        {"type": "text", "text": question},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    body = json.dumps({"stream": True, "messages": [{"role": "user", "content": parts}]})
    start = time.perf_counter()
    first_s = 0.0
    with client.stream("POST", "/v1/chat/completions", content=body) as reply:
        for line in reply.iter_lines():
            if not line.startswith("data: {"):
                continue
            delta = json.loads(line.removeprefix("data: "))["choices"][0]["delta"]
            if delta.get("content") or delta.get("reasoning_content"):
                first_s = first_s or time.perf_counter() - start
    return first_s, time.perf_counter() - start


def ask_pipeline(pipe: edge_et.ExtractThink, question: str) -> tuple[float, float]:
    """Return the seconds until the first token, and until the end."""
    picture = PICTURE.read_bytes()
    start = time.perf_counter()
    first_s = 0.0
    for event in pipe.stream(picture, question):
        if not isinstance(event, Progress):
            first_s = first_s or time.perf_counter() - start
    return first_s, time.perf_counter() - start


if __name__ == "__main__":
    main()
