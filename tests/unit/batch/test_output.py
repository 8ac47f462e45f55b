"""What is written stays, and is gone on with by the same request alone."""

import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge_et.batch.output import Output
from edge_et.errors import BatchOutputError

RUN = {"question": "What?", "options": {"seed": 1}}


def line(row: int, error: object = None, sha256: str | None = "00") -> dict[str, Any]:
    return {"row": row, "text": "ä\ud800", "picture_sha256": sha256, "error": error}


def opened(folder: Path, run: Any = RUN, rows: int = 5) -> Output:
    return Output(folder / "out.jsonl", folder / "out.jsonl", run, rows)


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    with opened(tmp_path) as output:
        output.append(line(3))
        output.append(line(1, {"type": "ImageFileError", "message": "gone"}, None))
    return tmp_path


def test_lines_that_stand_are_known_again(begun: Path) -> None:
    before = (begun / "out.jsonl").read_bytes()
    with opened(begun) as output:
        assert output.done == {3: "00", 1: None}
        assert output.failed == {1}
        output.append(line(0))
    assert (begun / "out.jsonl").read_bytes().startswith(before)
    with opened(begun) as output:
        assert list(output.done) == [3, 1, 0]
        assert output.row(3) == line(3)


@pytest.mark.parametrize("torn", [b'{"row": 2, "te', b"\0" * 5000, b'{"row": 2}', b"x" * 200_000])
def test_a_torn_line_is_cut_off(begun: Path, torn: bytes) -> None:
    before = (begun / "out.jsonl").read_bytes()
    (begun / "out.jsonl").write_bytes(before + torn)
    with opened(begun) as output:
        assert set(output.done) == {1, 3}
    assert (begun / "out.jsonl").read_bytes() == before


def test_an_output_that_is_all_torn_begins_anew(tmp_path: Path) -> None:
    with opened(tmp_path):
        pass
    (tmp_path / "out.jsonl").write_bytes(b'{"row"')
    with opened(tmp_path) as output:
        assert output.done == {}
    assert (tmp_path / "out.jsonl").read_bytes() == b""


def test_rows_with_errors_are_forgotten_on_request(begun: Path) -> None:
    with opened(begun) as output:
        output.forget_failed()
        assert output.done == {3: "00"}
        assert output.failed == set()
        output.append(line(1))
    rows = [json.loads(text)["row"] for text in (begun / "out.jsonl").read_text().splitlines()]
    assert rows == [3, 1]
    assert sorted(path.name for path in begun.iterdir()) == ["out.jsonl", "out.jsonl.run.json"]


@pytest.mark.parametrize(
    ("run", "told"),
    [
        ({**RUN, "question": "Who?"}, 'question was "What?" and is "Who?"'),
        ({**RUN, "options": {}}, "options seed was 1 and is null"),
        ({**RUN, "options": {"seed": 2}}, "options seed was 1 and is 2"),
        ({**RUN, "question": "x" * 10_000}, "..."),
    ],
)
def test_another_request_is_refused_with_what_differs(begun: Path, run: Any, told: str) -> None:
    before = (begun / "out.jsonl").read_bytes()
    with pytest.raises(BatchOutputError) as refused:
        opened(begun, run)
    assert told in str(refused.value)
    assert len(str(refused.value)) < 500
    assert (begun / "out.jsonl").read_bytes() == before
    with opened(begun) as output:
        assert len(output.done) == 2


def test_what_no_run_wrote_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("mine\n")
    with pytest.raises(BatchOutputError, match="of no run"):
        opened(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    assert (tmp_path / "out.jsonl").read_text() == "mine\n"
    with pytest.raises(BatchOutputError, match="folder"):
        Output(tmp_path, tmp_path, RUN, 5)


@pytest.mark.parametrize(
    ("added", "told"),
    [
        ("mine\n", "line 3: it is no row"),
        ('{"row": 5, "picture_sha256": "0", "error": null}\n', "row 5 is not expected"),
        ('{"row": 3, "picture_sha256": "0", "error": null}\n', "row 3 is not expected"),
        ('{"row": 4}\n', "line 3: it is no row"),
    ],
)
def test_lines_of_others_are_refused(begun: Path, added: str, told: str) -> None:
    with (begun / "out.jsonl").open("a") as file:
        file.write(added)
    with pytest.raises(BatchOutputError, match=told):
        opened(begun)


def test_a_torn_note_without_rows_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl.run.json").write_text('{"format"')
    with opened(tmp_path) as output:
        output.append(line(0))
    with opened(tmp_path) as output:
        assert list(output.done) == [0]


def test_one_run_at_a_time(begun: Path) -> None:
    with opened(begun), pytest.raises(BatchOutputError, match="another run"):
        opened(begun)
    with opened(begun) as output:
        assert len(output.done) == 2


@contextmanager
def files_of_100_bytes() -> Iterator[None]:
    """Let no file get longer; no fixture, since pytest's own output may be a file, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    refused = pytest.raises(BatchOutputError, match=r"out\.jsonl: .*too large.* ask the same again")
    with opened(tmp_path) as output:
        output.append(line(0))
        with refused, files_of_100_bytes():
            output.append(line(1))
        assert list(output.done) == [0]


def test_a_note_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    refused = pytest.raises(BatchOutputError, match=r"run\.json: it cannot be written")
    with refused, files_of_100_bytes():
        opened(tmp_path, {"question": "x" * 200})


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.run.json"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(BatchOutputError, match="no regular file"):
        opened(tmp_path)


@pytest.mark.parametrize("theirs", ['{"a": 1}\n', "mine\n", "[1]"])
def test_a_note_of_others_is_left_alone(tmp_path: Path, theirs: str) -> None:
    (tmp_path / "out.jsonl.run.json").write_text(theirs)
    with pytest.raises(BatchOutputError, match=r"run\.json: .*no note of a run: move it away"):
        opened(tmp_path)
    assert (tmp_path / "out.jsonl.run.json").read_text() == theirs
    assert len(list(tmp_path.iterdir())) == 1


def test_it_is_told_what_to_remove(tmp_path: Path) -> None:
    out, lines = tmp_path / "out.parquet", tmp_path / "out.parquet.rows.jsonl"
    with Output(out, lines, RUN, 5) as output:
        output.append(line(0))
    with pytest.raises(BatchOutputError) as refused:
        Output(out, lines, {}, 5)
    assert f"remove {lines} to begin anew" in str(refused.value)


def test_lines_beside_a_finished_file_are_missed(tmp_path: Path) -> None:
    out, lines = tmp_path / "out.parquet", tmp_path / "out.parquet.rows.jsonl"
    with Output(out, lines, RUN, 5) as output:
        output.append(line(0))
    out.write_bytes(b"PAR1")
    lines.unlink()
    with pytest.raises(BatchOutputError, match=r"rows.jsonl is missing"):
        Output(out, lines, RUN, 5)
