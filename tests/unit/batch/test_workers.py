"""Processes that answer, and die. A script stands in for the bundle, over the real connection."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_et.batch import workers
from edge_et.batch.worker import Opening, Task
from edge_et.batch.workers import answers
from edge_et.errors import EngineError, WorkerEndedError

# What a worker does, but for the models: it answers with its own id, and dies when it is asked to.
CHILD = """
import os, pathlib, signal, sys
from multiprocessing.connection import Connection
from edge_et.errors import EngineError

def die():
    os.kill(os.getpid(), signal.SIGKILL)

connection = Connection(int(sys.argv[1]))
opening = connection.recv()
if opening.load_options.get("fails"):
    connection.send(EngineError(None, "told to fail"))
    sys.exit()
if opening.load_options.get("dies"):
    die()
if opening.load_options.get("loads"):
    try:
        (opening.folder / "first").touch(exist_ok=False)
    except FileExistsError:
        try:
            connection.recv()
        except EOFError:
            (opening.folder / "ended by itself").touch()
        sys.exit()
connection.send("ready")
try:
    while True:
        task = connection.recv()
        for number, question in task.rows:
            if question == "die":
                die()
            if question == "die once" and not (opening.folder / "died").exists():
                (opening.folder / "died").touch()
                die()
            connection.send((number, {"pid": os.getpid(), "question": question, "error": None}))
        connection.send("done")
except EOFError:
    pass
"""


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_CHILD", CHILD)


def opening(folder: Path, **options: Any) -> Opening:
    return Opening(folder=folder, load_options=options, options={}, prepares=False)


def tasks(*questions: tuple[str, ...]) -> Iterator[Task]:
    number = 0
    for about in questions:
        rows = tuple(enumerate(about, number))
        number += len(about)
        yield Task(sha256=str(number), picture="a.png", rows=rows)


def run(folder: Path, *questions: tuple[str, ...], count: int = 1) -> dict[int, dict[str, Any]]:
    done: dict[int, dict[str, Any]] = {}
    for number, fields in answers(tasks(*questions), opening(folder), count, lambda: None):
        assert number not in done
        done[number] = fields
    return done


def test_every_worker_answers_all_about_a_picture(tmp_path: Path) -> None:
    done = run(tmp_path, ("a", "b", "c"), ("d",), ("e", "f"), ("g",), count=2)
    assert [done[number]["question"] for number in range(7)] == list("abcdefg")
    for about in ((0, 1, 2), (4, 5)):
        assert len({done[number]["pid"] for number in about}) == 1
    for pid in {fields["pid"] for fields in done.values()}:
        with pytest.raises(ProcessLookupError):  # it has ended, and was waited for
            os.kill(pid, 0)


def test_a_worker_that_dies_is_replaced_and_its_row_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    done = run(tmp_path, ("a", "die once", "b"), ("c",))
    assert [done[number]["question"] for number in range(4)] == ["a", "die once", "b", "c"]
    assert "SIGKILL while it answered row 1" in caplog.text
    assert len({fields["pid"] for fields in done.values()}) == 2


def test_a_row_that_kills_two_has_an_error_and_the_others_answers(tmp_path: Path) -> None:
    done = run(tmp_path, ("a", "die", "b", "die"), ("c",), count=2)
    assert sorted(done) == list(range(5))
    for number in (1, 3):
        assert done[number]["error"]["type"] == "WorkerEndedError"
        assert f"row {number}" in done[number]["error"]["message"]
    assert [done[number]["question"] for number in (0, 2, 4)] == ["a", "b", "c"]


def test_what_cannot_be_loaded_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="told to fail"):
        list(answers(tasks(("a",)), opening(tmp_path, fails=True), 1, lambda: None))
    with pytest.raises(WorkerEndedError, match="SIGKILL while it loaded the bundle: perhaps mem"):
        list(answers(tasks(("a",)), opening(tmp_path, dies=True), 2, lambda: None))


def test_an_end_in_between_ends_the_workers(tmp_path: Path) -> None:
    ready: list[bool] = []
    done = answers(tasks(*[("a",)] * 1000), opening(tmp_path), 2, lambda: ready.append(True))
    _, first = next(done)
    assert ready == [True]
    done.close()
    with pytest.raises(ProcessLookupError):
        os.kill(first["pid"], 0)


def test_the_end_waits_for_no_worker_that_still_loads(tmp_path: Path) -> None:
    loads = opening(tmp_path, loads="all but the first")
    done = list(answers(tasks(("a",), ("b",), ("c",)), loads, 3, lambda: None))
    assert sorted(number for number, _ in done) == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_nothing_to_do_starts_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert run(tmp_path) == {}
