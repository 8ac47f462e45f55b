"""Threads that pass a pipeline on, forks of a process that has one, and the end of a process.

What went wrong here killed the process or stopped it for ever, so each test has one of its own.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

PATIENCE_S = 120

# Two threads: with one neither libgomp nor ONNX Runtime has threads that a fork could lose.
BEGIN = """
import os, sys, threading
from concurrent.futures import ProcessPoolExecutor
import numpy as np
import edge_et

IMAGE = np.full((40, 40, 3), 7, np.uint8)
QUESTION = "Which colour?"
PATH = sys.argv[1]
pipeline = edge_et.load(PATH, threads=2)

def ask(_=None):
    return edge_et.answer(IMAGE, QUESTION, PATH, max_answer_tokens=8).text
"""

STREAM_CLOSED_BY_ANOTHER_THREAD = """
for _ in range(20):
    pipeline = edge_et.load(PATH, threads=2)
    stream = pipeline.stream(IMAGE, QUESTION, max_extraction_tokens=40)
    next(stream)
    inside = threading.Event()
    errors = []

    def work():
        inside.set()
        try:
            for _ in stream:
                pass
        except edge_et.errors.ClosedError as err:
            errors.append(err)

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    pipeline.close()
    thread.join()
    assert len(errors) == 1, errors
print("done")
"""

STREAM_PASSED_ON = """
from concurrent.futures import ThreadPoolExecutor

def collect(stream):
    while (event := next(stream, None)) is not None:
        last = event
    return last.text

alone = pipeline.answer(IMAGE, QUESTION).text
with ThreadPoolExecutor(1) as begins, ThreadPoolExecutor(1) as continues:
    stream = pipeline.stream(IMAGE, QUESTION)
    begins.submit(next, stream).result()
    waiting = begins.submit(pipeline.answer, IMAGE, QUESTION)
    passed_on = continues.submit(collect, stream).result()
    assert alone == passed_on == waiting.result().text
print("done")
"""

DAEMON_AT_THE_END = """
answered = threading.Event()

def work():
    while True:
        pipeline.answer(IMAGE, QUESTION)
        answered.set()

threading.Thread(target=work, daemon=True).start()
answered.wait()
print("done")
"""

# edge-et is imported behind the program's handler, so that its own come first.
JOINED_AT_THE_END = """
import atexit, sys, threading

PATH = sys.argv[1]
answered, stop = threading.Event(), threading.Event()

def work():
    import numpy as np
    import edge_et

    with edge_et.load(PATH, threads=2) as pipeline:
        while not stop.is_set():
            try:
                pipeline.answer(np.full((40, 40, 3), 7, np.uint8), "Which colour?")
            except edge_et.errors.ClosedError:
                return
            answered.set()

worker = threading.Thread(target=work, daemon=True)

@atexit.register
def end():
    stop.set()
    worker.join()
    print("done", flush=True)

worker.start()
answered.wait()
"""

SIGNALS_DURING_LOADS = """
import signal, time

class OfHandlerError(Exception):
    pass

fired = []

def handler(_, frame):
    fired.append(frame.f_code.co_filename)
    raise OfHandlerError

signal.signal(signal.SIGALRM, handler)
start = time.perf_counter()
edge_et.load(PATH, threads=2).close()
seconds = time.perf_counter() - start
lost = []
for number in range(60):
    before = len(fired)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds * (number + 1) / 60)
        edge_et.load(PATH, threads=2).close()
        signal.setitimer(signal.ITIMER_REAL, 0)
        # Finalizers of the standard library and msgspec's look-up of types lose it, too.
        lost += [name for name in fired[before:] if "edge_et" in name]
    except OfHandlerError:
        pass
assert len(fired) > 20, fired
assert not lost, lost
print("done")
"""

EVERY_THREAD_IN_TURN = """
counts, end = [0, 0, 0], threading.Event()

def work(number):
    while not end.is_set():
        pipeline.answer(IMAGE, QUESTION, max_extraction_tokens=4, max_answer_tokens=2)
        counts[number] += 1
        if sum(counts) == 30:
            end.set()

threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert min(counts) > 5, counts
print("done")
"""

# The children are killed by an alarm if they hang.
TWO_CHILDREN = """
import signal

here = ask(), pipeline.answer(IMAGE, QUESTION, max_answer_tokens=8).text
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        try:
            pipeline.answer(IMAGE, QUESTION)
        except edge_et.errors.ForkedError as err:
            assert "edge_et.load()" in str(err)
        else:
            os._exit(3)
        assert ask() == here[0]
        with edge_et.load(PATH, threads=2) as own:
            assert own.answer(IMAGE, QUESTION, max_answer_tokens=8).text == here[1]
        pipeline.close()
        sys.exit(0)  # as gunicorn does, with all that the end of an interpreter does
    children.append(child)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
assert ask() == here[0]
print("done")
"""

FORK_DURING_AN_ANSWER = """
import signal

here = ask()
inside = threading.Event()

def work():
    for _ in pipeline.stream(IMAGE, QUESTION):
        inside.set()

thread = threading.Thread(target=work)
thread.start()
inside.wait()
child = os.fork()
if child == 0:
    signal.alarm(60)
    assert ask() == here
    pipeline.close()
    sys.exit(0)
thread.join()
assert os.waitpid(child, 0)[1] == 0
print("done")
"""

PROCESS_POOL = """
import multiprocessing

here = ask()
with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
    assert list(pool.map(ask, range(4), timeout=60)) == [here] * 4
print("done")
"""


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(STREAM_CLOSED_BY_ANOTHER_THREAD, id="a stream closed by another thread"),
        pytest.param(STREAM_PASSED_ON, id="a stream passed on"),
        pytest.param(EVERY_THREAD_IN_TURN, id="every thread in turn"),
        pytest.param(SIGNALS_DURING_LOADS, id="signals during loads"),
        pytest.param(TWO_CHILDREN, id="two children"),
        pytest.param(FORK_DURING_AN_ANSWER, id="a fork during an answer"),
        pytest.param(PROCESS_POOL, id="a process pool"),
    ],
)
def test_a_program_ends_well(tiny_pair: Path, script: str) -> None:
    run(script, tiny_pair)


def test_a_program_ends_while_a_daemon_thread_answers(tiny_pair: Path) -> None:
    for _ in range(3):
        run(DAEMON_AT_THE_END, tiny_pair)


def test_a_program_ends_that_waits_for_its_worker_at_its_end(tiny_pair: Path) -> None:
    run(JOINED_AT_THE_END, tiny_pair, begin="")


def run(script: str, bundle: Path, begin: str = BEGIN) -> None:
    """Run a program to its end; a hanging one is killed with its children."""
    process = subprocess.Popen(
        [sys.executable, "-c", begin + script, str(bundle)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"it hangs: {process.communicate()}")
    assert process.returncode == 0, errors
    assert output.split() == ["done"]


APPLICATION = """
import os
import numpy as np
import edge_et

IMAGE = np.full((40, 40, 3), 7, np.uint8)
PATH = os.environ["BUNDLE"]
PIPELINE = edge_et.load(PATH, threads=2)
BEFORE = edge_et.answer(IMAGE, "Which colour?", PATH).text
PIPELINE.answer(IMAGE, "Which colour?")


def app(environ, start_response):
    try:
        if environ["PATH_INFO"] == "/inherited":
            PIPELINE.answer(IMAGE, "Which colour?")
        text = edge_et.answer(IMAGE, "Which colour?", PATH).text
        said = "same" if text == BEFORE else "other"
    except edge_et.EdgeETError as err:
        said = type(err).__name__
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{said} {os.getpid()}".encode()]
"""


def test_workers_of_gunicorn_with_a_preloaded_application(tiny_pair: Path, tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(APPLICATION)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    options = ["--preload", "--workers", "2", "--bind", address, "--timeout", "60"]
    server = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *options, "served:app"],
        cwd=tmp_path,
        env={**os.environ, "BUNDLE": str(tiny_pair)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        workers = set()
        end = time.monotonic() + PATIENCE_S
        while len(workers) < 2 and time.monotonic() < end:
            said, worker = get(f"http://{address}/", server)
            assert said == "same"
            workers.add(worker)
        assert len(workers) == 2
        assert get(f"http://{address}/inherited", server)[0] == "ForkedError"
        server.terminate()
        assert server.wait(30) == 0
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)


def get(url: str, server: "subprocess.Popen[str]") -> list[str]:
    """Ask the server, which may not listen yet."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(url, timeout=60) as response:
                return str(response.read().decode()).split()
        except ConnectionError:
            pass
        except urllib.error.URLError as err:
            if not isinstance(err.reason, ConnectionError):
                raise
        assert server.poll() is None, server.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.1)
