"""Processes that compute without pause, so that answers can be measured on a busy machine.

``python -m edge_et.benchmarks.busy`` is one of them. It says a line when it begins, and ends when
its standard input does: when it was closed, or when the process that holds its other end is gone,
however that ended.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Let processes compute beside what is done in the context; they end with it.

    Args:
        count: how many; each keeps one CPU busy.
    """
    with ExitStack() as stack:
        started = [stack.enter_context(_busy_process()) for _ in range(count)]
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        yield


@contextmanager
def _busy_process() -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "edge_et.benchmarks.busy"]
    # What Ctrl-C makes them say is nothing that a user has to read.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _main() -> None:
    threading.Thread(target=_end_with_input, daemon=True).start()
    print("computing", flush=True)
    while True:
        pass


if __name__ == "__main__":
    _main()
