"""A server as users start it: `edge-et serve` in a process of its own."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_ADDRESS = re.compile(r"http://[^\s]+")


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs.

    Attributes:
        address: as ``http://127.0.0.1:PORT``.
        process: of it.
        log: what it wrote so far, lines.
    """

    address: str
    process: "subprocess.Popen[str]"
    log: list[str]


@contextmanager
def serving(*arguments: str) -> Iterator[Served]:
    """Serve while the block runs; the process has to end well.

    Args:
        arguments: of `edge-et serve`, but for the port.
    """
    with running("-m", "edge_et", "serve", "--port", "0", *arguments) as served:
        yield served


@contextmanager
def running(*arguments: str) -> Iterator[Served]:
    """Run a Python program that serves while the block runs; the process has to end well.

    Args:
        arguments: of the interpreter.
    """
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines: list[str] = []
    try:
        while True:
            line = process.stderr.readline()
            lines.append(line)
            assert line, "".join(lines)
            if found := _ADDRESS.search(line):
                break
        # What else it writes must not fill the pipe.
        reader = threading.Thread(target=lambda: lines.extend(process.stderr or []))
        reader.start()
        yield Served(found.group(), process, lines)
        process.terminate()
        process.wait(timeout=60)
        reader.join()
        assert process.returncode == 0, "".join(lines)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
