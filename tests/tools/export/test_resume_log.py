"""A resume log: what a kill leaves behind, and what is refused."""

from pathlib import Path

import msgspec
import pytest

from edge_et.errors import BenchError, ToolError
from edge_et.export.resume_log import ResumeLog


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    seconds: float = 0.0


def open_log(path: Path, error: type[ToolError] = ToolError) -> ResumeLog[Step]:
    return ResumeLog(path, Step, writer="a test", error=error)


def test_records_are_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "log.jsonl"
    with open_log(path) as log:
        assert log.records == []
        log.add(Step("one", 0.5))
        # Nothing waits in a buffer: a kill now would lose nothing.
        assert path.read_bytes() == b'{"name":"one","seconds":0.5}\n'
        log.add(Step("two"))
    with open_log(path) as log:
        assert log.records == [Step("one", 0.5), Step("two")]


@pytest.mark.parametrize("torn", [b'{"name":"tw', b'{"name":"two","seconds":1.0}', b"\xff"])
def test_a_line_that_a_kill_tore_is_cut_off(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "log.jsonl"
    whole = b'{"name":"one","seconds":0.5}\n'
    path.write_bytes(whole + torn)
    with open_log(path) as log:
        assert log.records == [Step("one", 0.5)]
        assert path.read_bytes() == whole
        log.add(Step("three"))
    with open_log(path) as log:
        assert [record.name for record in log.records] == ["one", "three"]


@pytest.mark.parametrize("line", [b'{"other":1}', b"not JSON", b'{"name":"\xff"}', b""])
def test_a_file_that_something_else_wrote_is_refused_and_left_alone(
    tmp_path: Path, line: bytes
) -> None:
    path = tmp_path / "log.jsonl"
    content = b'{"name":"one"}\n' + line + b"\ntorn"
    path.write_bytes(content)
    with pytest.raises(BenchError, match=r"line 2 was not written by a test: .* move the file"):
        open_log(path, BenchError)
    assert path.read_bytes() == content


def test_a_place_that_cannot_be_written_is_the_callers_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BenchError, match="cannot write"):
        open_log(tmp_path / "file" / "log.jsonl", BenchError)
    with pytest.raises(BenchError, match="cannot write"):
        open_log(tmp_path, BenchError)
