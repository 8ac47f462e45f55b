"""Start a llama-server on this machine, ask it over HTTP, and end it."""

import http.client
import json
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from edge_et.benchmarks.sensors import peak_memory_bytes
from edge_et.errors import BenchError

MARKER = "<__media__>"
"""Stands for the picture in a prompt."""

_HOST = "127.0.0.1"
_START_S = 600.0
_ANSWER_S = 3600.0
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Completion:
    """What a server wrote.

    Attributes:
        times: when each token came, of `perf_counter`.
        read: positions of the prompt that it evaluated.
        reused: positions of the prompt that it found in its cache.
    """

    times: list[float]
    read: int
    reused: int


class Server:
    """A running llama-server."""

    def __init__(self, program: Path, arguments: Sequence[str]) -> None:
        """Start it and wait until it can be asked.

        Args:
            program: the executable.
            arguments: models and settings.

        Raises:
            BenchError: it cannot be started, ends, or takes longer than ten minutes.
        """
        with socket.socket() as found:
            found.bind((_HOST, 0))
            self._port: int = found.getsockname()[1]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the server
        command = [str(program), *arguments, "--host", _HOST, "--port", str(self._port)]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"LLAMA_MEDIA_MARKER": MARKER},
            )
        except OSError as err:
            self._log.close()
            raise BenchError(f"{program} cannot be started: {err.strerror}") from err
        try:
            self._wait()
        except BenchError:
            self.close()
            raise

    def complete(self, prompt: dict[str, Any] | str, **options: Any) -> Completion:
        """Have a text written.

        Args:
            prompt: as `/completion` takes it.
            options: its other fields.

        Raises:
            BenchError: the server refuses, or ends.
        """
        body = json.dumps({"prompt": prompt, "stream": True, **options}).encode()
        times: list[float] = []
        last: dict[str, Any] = {}
        for event in self._events(body):
            if "error" in event:
                raise BenchError(f"llama-server: {_reason(event)}")
            if event.get("content"):
                times.append(time.perf_counter())
            last = event
        if not last.get("stop"):
            raise BenchError(f"llama-server broke off an answer{self._last_words()}")
        try:
            timings = last["timings"]
            return Completion(times, timings["prompt_n"], timings["cache_n"])
        except (KeyError, TypeError) as err:
            raise BenchError(
                "llama-server does not tell what it evaluated; is it too old?"
            ) from err

    def peak_memory_bytes(self) -> int:
        """Return the most resident memory that it had so far."""
        return peak_memory_bytes(self._process.pid)

    def close(self) -> None:
        """End it; may be called again."""
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _wait(self) -> None:
        end = time.perf_counter() + _START_S
        while time.perf_counter() < end:
            if self._process.poll() is not None:
                raise BenchError(f"llama-server ended while it started{self._last_words()}")
            try:
                with closing(self._connect()) as connection:
                    connection.request("GET", "/health")
                    if connection.getresponse().status == http.HTTPStatus.OK:
                        return
            except (OSError, http.client.HTTPException):
                pass  # it does not listen yet
            time.sleep(_POLL_S)
        raise BenchError(f"llama-server did not start in {_START_S:.0f} s{self._last_words()}")

    def _events(self, body: bytes) -> Iterator[dict[str, Any]]:
        """Yield what comes back, event by event."""
        try:
            with closing(self._connect()) as connection:
                headers = {"Content-Type": "application/json"}
                connection.request("POST", "/completion", body, headers)
                answer = connection.getresponse()
                if answer.status != http.HTTPStatus.OK:
                    yield _parse(answer.read())
                    return
                for line in answer:
                    kind, _, data = line.partition(b": ")
                    if kind == b"data" and data.strip() != b"[DONE]":
                        yield _parse(data)
        except (OSError, http.client.HTTPException) as err:
            raise BenchError(f"llama-server cannot be asked: {err}{self._last_words()}") from err

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(_HOST, self._port, timeout=_ANSWER_S)

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


def _parse(data: bytes) -> dict[str, Any]:
    try:
        event = json.loads(data)
    except ValueError:
        event = None
    if isinstance(event, dict):
        return event
    return {"error": data.decode(errors="replace")[:200]}


def _reason(event: dict[str, Any]) -> str:
    error = event["error"]
    return str(error.get("message", error) if isinstance(error, dict) else error)
