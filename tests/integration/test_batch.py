"""`edge-et batch` as a process, over a tiny bundle: killed, interrupted, gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import edge_et
from edge_et.batch import BatchProgress, answer_all
from edge_et.errors import OptionError

SHORT = {"max_extraction_tokens": 2, "max_thinking_tokens": 1, "max_answer_tokens": 1}
FLAGS = [word for name, n in SHORT.items() for word in (f"--{name.replace('_', '-')}", str(n))]
PATIENCE_S = 300


def draw(folder: Path, count: int) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        Image.new("RGB", (8, 8), (number % 256, number // 256, 9)).save(folder / f"{number:03}.png")
    return folder


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "edge_et", "batch", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


@contextmanager
def begun(out: Path, lines: int, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start a run, and wait until it has so many lines."""
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        end = time.monotonic() + PATIENCE_S
        while not out.exists() or out.read_bytes().count(b"\n") < lines:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.01)
        yield process


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_five_hundred_pictures_killed_three_times(tiny_bundle: Path, tmp_path: Path) -> None:
    pictures, out = draw(tmp_path / "pictures", 500), tmp_path / "out.jsonl"
    asked = (pictures, "--question", "What?", "--out", out, "--model", tiny_bundle, *FLAGS)
    stands = b""
    for lines in (5, 150, 300):
        with begun(out, lines, *asked) as process:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert out.read_bytes().startswith(stands)
        stands = out.read_bytes()[: out.read_bytes().rindex(b"\n") + 1]
    out.write_bytes(stands + b'{"row": 499, "ima')
    count = stands.count(b"\n")
    assert 300 <= count < 500
    last = run(*asked, "--workers", "2")
    assert last.returncode == 0, last.stderr
    assert last.stdout == ""
    assert f"500 rows about 500 different pictures, {500 - count} of them done now" in last.stderr
    assert out.read_bytes().startswith(stands)
    rows = rows_of(out)
    assert sorted(row["row"] for row in rows) == list(range(500))
    for row in rows:
        assert row["image"] == str(pictures / f"{row['row']:03}.png")
        assert row["text"]
        assert row["error"] is None
    again = run(*asked)
    assert again.returncode == 0
    assert "0 of them done now" in again.stderr
    assert rows_of(out) == rows


@pytest.fixture
def heeded_sigint() -> Iterator[None]:
    """Let processes heed SIGINT, to which those in the background of a script are born deaf."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded_sigint")
def test_ctrl_c_says_how_to_go_on(tiny_bundle: Path, tmp_path: Path) -> None:
    pictures, out = draw(tmp_path / "pictures", 200), tmp_path / "out.jsonl"
    asked = (pictures, "--question", "What?", "--out", out, "--model", tiny_bundle)
    with begun(out, 3, *asked) as process:
        process.send_signal(signal.SIGSTOP)  # so that it is not done before
        second = run(*asked)
        children = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        _, told = process.communicate()
    assert second.returncode == 1
    assert "another run writes to it" in second.stderr
    assert process.returncode == 130
    assert "of 200 rows are done; the same command goes on" in told
    assert told.splitlines()[-1] == "edge-et: interrupted"
    assert children
    assert not any(child.is_running() for child in children)
    rows = rows_of(out)
    assert f"{len(rows)} of 200" in told
    other = run(pictures, "--question", "Who?", "--out", out, "--model", tiny_bundle)
    assert other.returncode == 1
    assert 'question was "What?" and is "Who?"' in other.stderr
    assert rows_of(out) == rows


def test_a_killed_worker_costs_no_row(tiny_bundle: Path, tmp_path: Path) -> None:
    pictures, out = draw(tmp_path / "pictures", 60), tmp_path / "out.jsonl"
    asked = (pictures, "--question", "What?", "--out", out, "--model", tiny_bundle)
    with begun(out, 3, *asked) as process:
        (child,) = psutil.Process(process.pid).children()
        child.kill()
        _, told = process.communicate()
    assert process.returncode == 0
    assert "a worker ended by SIGKILL while it answered row" in told
    assert sorted(row["row"] for row in rows_of(out)) == list(range(60))
    assert not any(row["error"] for row in rows_of(out))


@pytest.fixture
def asked(tiny_bundle: Path, tmp_path: Path) -> dict[str, Any]:
    """Six rows about three pictures, one of which is not there."""
    draw(tmp_path, 2)
    (tmp_path / "same.png").write_bytes((tmp_path / "000.png").read_bytes())
    names = ("000.png", "001.png", "same.png", "none.png", "000.png", "001.png")
    lines = [
        json.dumps({"image": name, "id": number, "question": f"What is {number % 2}?"})
        for number, name in enumerate(names)
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    # More tokens than elsewhere, so that texts differ.
    inputs = [str(tmp_path / "in.jsonl")]
    return {"inputs": inputs, "model": str(tiny_bundle), "load_options": {"threads": 1}}


def without_seconds(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for row in rows:
        del row["seconds"]
    return sorted(rows, key=lambda row: int(row["row"]))


def test_no_answer_depends_on_the_workers(asked: dict[str, Any], tmp_path: Path) -> None:
    found = []
    for workers in (1, 2):
        out = tmp_path / f"{workers}.jsonl"
        summary = answer_all(**asked, out=str(out), workers=workers)
        assert (summary.rows, summary.answered, summary.failed) == (6, 6, 1)
        assert summary.pictures == 2
        found.append(without_seconds(rows_of(out)))
    assert found[0] == found[1]
    with edge_et.load(asked["model"], threads=1) as pipe:
        for row in found[0]:
            if row["error"] is None:
                answer = pipe.answer(tmp_path / row["image"], row["question"])
                assert (row["text"], row["extraction"]) == (answer.text, answer.extraction)
    assert len({row["text"] for row in found[0]}) > 2


def test_rows_with_errors_are_asked_again_on_request(asked: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    answer_all(**asked, out=str(out))
    (failed,) = (row for row in rows_of(out) if row["error"])
    assert failed["error"]["type"] == "ImageFileError"
    assert failed["id"] == 3
    (tmp_path / "none.png").write_bytes((tmp_path / "001.png").read_bytes())
    assert answer_all(**asked, out=str(out)).answered == 0
    told: list[BatchProgress] = []
    summary = answer_all(**asked, out=str(out), retry_errors=True, on_progress=told.append)
    assert (summary.found, summary.answered, summary.failed) == (5, 1, 0)
    assert told[-1] == BatchProgress(
        phase="answer", done=6, total=6, rows_per_minute=told[-1].rows_per_minute
    )
    (tmp_path / "001.png").write_bytes(b"another one")
    with pytest.raises(edge_et.errors.BatchOutputError, match="row 1 was answered about"):
        answer_all(**asked, out=str(out))


def test_parquet_appears_whole_behind_the_last_row(asked: dict[str, Any], tmp_path: Path) -> None:
    table = pa.table(
        {
            "image": [(tmp_path / f"{number % 2:03}.png").read_bytes() for number in range(4)],
            "id": pa.array([5, 6, 7, 8], pa.int16()),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    out = tmp_path / "out.parquet"
    asked |= {"inputs": [str(tmp_path / "in.parquet")], "question": "What?", "out": str(out)}

    class StopError(Exception):
        pass

    def stop(progress: BatchProgress) -> None:
        if progress.phase == "answer" and progress.done == 2:
            raise StopError

    options = {"kind": "yes/no"}
    with pytest.raises(StopError):
        answer_all(**asked, options=options, on_progress=stop)
    assert not out.exists()
    assert answer_all(**asked, options=options).found == 2
    rows = pq.read_table(out)
    assert rows.schema.field("id").type == pa.int16()
    assert rows.schema.field("value").type == pa.bool_()
    assert rows.column("id").to_pylist() == [5, 6, 7, 8]
    for row in rows.to_pylist():
        assert row["value"] is (row["text"] == "yes")
        assert row["error"] is None
    before = out.stat().st_mtime_ns
    assert answer_all(**asked, options=options).answered == 0
    assert out.stat().st_mtime_ns == before


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_a_link_is_the_same_output(asked: dict[str, Any], tmp_path: Path, name: str) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / name).symlink_to(f"real/{name}")
    assert answer_all(**asked, options=SHORT, out=tmp_path / name).answered == 6
    assert (tmp_path / name).is_symlink()
    assert answer_all(**asked, options=SHORT, out=tmp_path / "real" / name).found == 6


def test_the_exit_status_tells_errors(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    out = tmp_path / "out.jsonl"
    asked = ("--question", "What?", "--out", out, "--model", tiny_bundle)
    failed = run(tmp_path, *asked, *FLAGS)
    assert failed.returncode == 1
    assert "1 have an error" in failed.stderr
    assert rows_of(out)[0]["error"]["type"] == "ImageDecodeError"
    missing = run(tmp_path / "none", *asked)
    assert missing.returncode == 1
    (line,) = missing.stderr.splitlines()
    assert "no such file" in line
    assert run(tmp_path, "--question", "What?").returncode == 2
    assert run(tmp_path, *asked, "--workers", "0").returncode == 2


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"workers": 0}, "workers"),
        ({"question": " "}, "question"),
        ({"out": "out.txt"}, "out"),
        ({"options": {"seed": -1}}, "seed"),
        ({"options": {"thinking": True}}, "thinking"),
        ({"options": {"schema": dict}}, "schema"),
        ({"load_options": {"threads": 0}}, "threads"),
    ],
)
def test_what_no_row_could_be_asked_is_refused_at_once(
    asked: dict[str, Any], tmp_path: Path, wrong: dict[str, Any], told: str
) -> None:
    before = os.listdir(tmp_path)
    with pytest.raises(OptionError) as refused:
        answer_all(**{**asked, "out": str(tmp_path / "out.jsonl"), **wrong})
    assert refused.value.name == told
    assert os.listdir(tmp_path) == before
