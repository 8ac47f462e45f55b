"""A program that speaks as llama-server does, as far as the benchmark listens to it."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

MODE = os.environ.get("FAKE_MODE", "")
LOG = os.environ.get("FAKE_LOG")


def log(line: object) -> None:
    if LOG:
        with open(LOG, "a") as file:
            file.write(json.dumps(line) + "\n")


class Handler(BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self) -> None:
        Handler.asked += 1
        self.send_response(503 if Handler.asked < 3 else 200)  # it is loading at first
        self.end_headers()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        log(body)
        if MODE == "hangs-up":
            return
        self.send_response(400 if MODE == "refuses" else 200)
        self.end_headers()
        if MODE == "refuses":
            self.wfile.write(b'{"error": {"code": 400, "message": "the picture is too large"}}')
            return
        if MODE == "nonsense":
            self.wfile.write(b"data: <html>\n\n")
            return
        for _ in range(body["n_predict"] - (MODE == "short")):
            self.say({"content": " word", "stop": False})
        if MODE == "breaks-off":
            return
        counts: dict[str, Any] = {"timings": {"prompt_n": 400, "cache_n": 2}}
        self.say({"content": "", "stop": True} | ({} if MODE == "no-timings" else counts))

    def say(self, event: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")

    def log_message(self, *arguments: object) -> None:
        pass


if __name__ == "__main__":
    if sys.argv[1:] == ["--version"]:
        print("version: fake 1", file=sys.stderr)
        sys.exit()
    if MODE == "ends":
        sys.exit("no such model")
    log(sys.argv[1:])
    port = int(sys.argv[sys.argv.index("--port") + 1])
    HTTPServer(("127.0.0.1", port), Handler).serve_forever()
