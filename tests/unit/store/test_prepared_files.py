import os
import signal
import subprocess
import sys
import textwrap
import time
from errno import EROFS
from pathlib import Path
from unittest.mock import Mock

import pytest

from edge_et.store import PreparedFiles, unnamed_file
from edge_et.store.files import PARTIAL_PREFIX

CHILD = """
import sys, time
from pathlib import Path
from edge_et.store import PreparedFiles

def write(path):
    path.write_bytes(b"child" * 20)
    print("writing", flush=True)
    sys.stdin.readline()

PreparedFiles(Path(sys.argv[1]), 1000).make("a.gguf", write, 100)
"""


def new_files(folder: Path, limit_bytes: int = 1000) -> PreparedFiles:
    return PreparedFiles(folder / "files", limit_bytes)


def make(files: PreparedFiles, name: str, content: bytes) -> bool:
    made = files.make(name, lambda path: path.write_bytes(content), len(content))
    if made is not None:
        assert made.path.read_bytes() == content
        made.close()
    return made is not None


def refuse(path: Path) -> None:
    raise AssertionError(f"{path} is made again")


def start_writer(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(folder / "files")]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "writing\n"
    return child


def test_a_file_is_made_once(tmp_path: Path) -> None:
    assert new_files(tmp_path).open("a.gguf") is None
    assert make(new_files(tmp_path), "a.gguf", b"abc")
    again = new_files(tmp_path).make("a.gguf", refuse, 3)
    assert again is not None
    assert (again.path.read_bytes(), again.size_bytes) == (b"abc", 3)
    again.close()


def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    make(new_files(tmp_path), "a.gguf", b"abc")
    (tmp_path / "files" / "a.gguf").write_bytes(b"abd")
    assert new_files(tmp_path).open("a.gguf") is None
    assert not (tmp_path / "files" / "a.gguf").exists()
    assert make(new_files(tmp_path), "a.gguf", b"abc")


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise ValueError("told to fail")

    with pytest.raises(ValueError, match="told to fail"):
        new_files(tmp_path).make("a.gguf", fail, 4)
    assert list((tmp_path / "files").iterdir()) == []
    with pytest.raises(ValueError, match="told to fail"):
        unnamed_file(fail)


def test_what_a_killed_writer_leaves_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = start_writer(tmp_path)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    left = list((tmp_path / "files").iterdir())
    assert len(left) == 1
    assert left[0].name.startswith(PARTIAL_PREFIX)
    assert new_files(tmp_path).open("a.gguf") is None
    monkeypatch.setattr("edge_et.store.files._UNCLAIMED_S", 0.0)
    assert make(new_files(tmp_path), "a.gguf", b"abc")
    assert sorted(path.name for path in (tmp_path / "files").iterdir()) == [
        "a.gguf",
        "a.gguf.json",
    ]


def test_two_processes_do_not_make_the_same(tmp_path: Path) -> None:
    child = start_writer(tmp_path)
    assert new_files(tmp_path).make("a.gguf", refuse, 3) is None
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()
    waited = new_files(tmp_path).make("a.gguf", refuse, 3, wait_s=60.0)
    assert waited is not None
    assert waited.path.read_bytes() == b"child" * 20
    waited.close()
    assert child.wait() == 0
    child.communicate()


def test_what_was_unused_for_longest_makes_room(tmp_path: Path) -> None:
    files = new_files(tmp_path, limit_bytes=300)
    for name in ("a", "b", "c"):
        make(files, f"{name}.gguf", name.encode() * 90)
    for age, name in enumerate(("b", "c", "a")):
        moment = time.time() - 1000 + age
        os.utime(tmp_path / "files" / f"{name}.gguf", (moment, moment))
    held = files.open("b.gguf")
    assert held is not None
    os.utime(held.path, (1, 1))
    assert make(files, "d.gguf", b"d" * 90)
    assert {path.name for path in (tmp_path / "files").glob("*.gguf")} == {
        "a.gguf",
        "b.gguf",
        "d.gguf",
    }
    assert not make(files, "e.gguf", b"e" * 250)  # b is in use, and leaves no room
    held.close()
    assert make(files, "e.gguf", b"e" * 250)


def test_a_folder_that_cannot_be_written_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(new_files(tmp_path), "a.gguf", b"abc")
    read_only = Mock(side_effect=OSError(EROFS, "Read-only file system"))
    monkeypatch.setattr("os.utime", read_only)
    monkeypatch.setattr("os.mkdir", read_only)
    found = new_files(tmp_path).make("a.gguf", refuse, 3)
    assert found is not None
    found.close()
    assert new_files(tmp_path).make("b.gguf", refuse, 3) is None


def test_a_file_in_the_folders_place_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "files").touch()
    files = new_files(tmp_path)
    assert not files.is_writable
    assert files.open("a.gguf") is None
    assert not make(files, "a.gguf", b"abc")
    assert new_files(tmp_path / "new").is_writable


@pytest.mark.parametrize("has_memory", [True, False])
def test_an_unnamed_file_vanishes(has_memory: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_memory:
        monkeypatch.delattr("os.memfd_create", raising=False)
    file = unnamed_file(lambda path: path.write_bytes(b"abc"))
    path = file.path
    assert (path.read_bytes(), file.size_bytes) == (b"abc", 3)
    file.close()
    file.close()
    assert not path.exists()
