import os
import signal
import subprocess
import sys
import textwrap
import time
from errno import EACCES, EAGAIN, EBADF, ENOLCK, ENOSYS, EOPNOTSUPP, EROFS
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


DAEMON = """
import os, sys, threading, time
from pathlib import Path
from edge_et.store import PreparedFiles

begun = threading.Event()

def write(path):
    begun.set()
    time.sleep(600)

files = PreparedFiles(Path(sys.argv[1]), 1000)
threading.Thread(target=files.make, args=("b.gguf", write, 100), daemon=True).start()
begun.wait()
if os.fork():
    os._exit(0)
print("writing", flush=True)
sys.stdin.readline()
"""

PARENT = """
import os, sys
from pathlib import Path
from edge_et.store import PreparedFiles

held = PreparedFiles(Path(sys.argv[1]), 1000).open("a.gguf")
child = os.fork()
held.close() if not child else os.waitpid(child, 0)
if child:
    print("writing", flush=True)
    sys.stdin.readline()
"""


def new_files(folder: Path, limit_bytes: int = 1000) -> PreparedFiles:
    return PreparedFiles(folder / "files", limit_bytes)


def make(files: PreparedFiles, name: str, content: bytes) -> bool:
    made = files.make(name, lambda path: path.write_bytes(content), len(content))
    if made is not None:
        assert made.path.read_bytes() == content
        made.close()
    return made is not None


def left_in(folder: Path) -> list[str]:
    names = sorted(path.name for path in (folder / "files").iterdir())
    return [name for name in names if name != ".lock"]


def refuse(path: Path) -> None:
    raise AssertionError(f"{path} is made again")


def start_writer(folder: Path, script: str = CHILD) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(script), str(folder / "files")]
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


def test_a_damaged_file_that_cannot_be_deleted_is_not_promised_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make(new_files(tmp_path), "a.gguf", b"abc")
    (tmp_path / "files" / "a.gguf").write_bytes(b"abd")
    with monkeypatch.context() as patch:
        patch.setattr("os.unlink", Mock(side_effect=OSError(EROFS, "Read-only file system")))
        assert new_files(tmp_path).open("a.gguf") is None
    assert "is damaged and cannot be deleted" in caplog.text
    assert "made again" not in caplog.text
    assert new_files(tmp_path).open("a.gguf") is None
    assert "was damaged and is deleted; it will be made again" in caplog.text


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise ValueError("told to fail")

    with pytest.raises(ValueError, match="told to fail"):
        new_files(tmp_path).make("a.gguf", fail, 4)
    assert left_in(tmp_path) == []
    with pytest.raises(ValueError, match="told to fail"):
        unnamed_file(fail)


def test_what_a_killed_writer_leaves_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = start_writer(tmp_path)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    (left,) = left_in(tmp_path)
    assert left.startswith(PARTIAL_PREFIX)
    assert new_files(tmp_path).open("a.gguf") is None
    monkeypatch.setattr("edge_et.store.files._UNCLAIMED_S", 0.0)
    assert make(new_files(tmp_path), "a.gguf", b"abc")
    assert left_in(tmp_path) == ["a.gguf", "a.gguf.json"]


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_forked_child_keeps_no_lock_of_its_parent(tmp_path: Path) -> None:
    daemon = start_writer(tmp_path, DAEMON)
    assert daemon.wait() == 0
    assert make(new_files(tmp_path), "a.gguf", b"abc")
    daemon.communicate()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_forked_child_ends_no_lock_of_its_parent(tmp_path: Path) -> None:
    make(new_files(tmp_path), "a.gguf", b"a" * 90)
    parent = start_writer(tmp_path, PARENT)
    files = new_files(tmp_path, limit_bytes=100)
    assert not make(files, "b.gguf", b"b" * 90)
    parent.communicate()
    assert make(files, "b.gguf", b"b" * 90)


@pytest.mark.parametrize("number", [ENOLCK, EOPNOTSUPP, EBADF, ENOSYS])
def test_where_there_are_no_locks_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr("edge_et.store.locks.flock", Mock(side_effect=OSError(number, "none")))
    monkeypatch.setattr("time.sleep", pytest.fail)
    files = new_files(tmp_path, limit_bytes=100)
    for name in ("a", "b"):
        made = files.make(f"{name}.gguf", lambda path: path.write_bytes(b"c" * 90), 90, wait_s=60)
        assert made is not None
        made.close()
    assert left_in(tmp_path) == ["b.gguf", "b.gguf.json"]
    assert new_files(tmp_path).make("b.gguf", refuse, 90) is not None


@pytest.mark.parametrize("number", [EAGAIN, EACCES])
def test_a_lock_that_somebody_has_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    held = Mock(side_effect=OSError(number, "held"))
    monkeypatch.setattr("edge_et.store.locks.flock", held)
    assert not make(new_files(tmp_path), "a.gguf", b"abc")
    held.side_effect = None
    assert make(new_files(tmp_path), "a.gguf", b"abc")


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks")
def test_locks_of_nfs_suffice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It locks no file for one process alone that is not open for writing."""
    import fcntl

    def of_nfs(handle: int, operation: int) -> None:
        is_read_only = fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        if operation & fcntl.LOCK_EX and is_read_only:
            raise OSError(EBADF, "Bad file descriptor")
        fcntl.flock(handle, operation)

    monkeypatch.setattr("edge_et.store.locks.flock", of_nfs)
    monkeypatch.setattr("edge_et.store.locks.raised_by", lambda err: True)
    files = new_files(tmp_path, limit_bytes=200)
    child = start_writer(tmp_path)
    assert not make(files, "b.gguf", b"b" * 90)
    child.communicate()
    held = files.open("a.gguf")
    assert held is not None
    os.utime(held.path, (1, 1))
    assert make(files, "b.gguf", b"b" * 90)
    assert make(files, "c.gguf", b"c" * 90)
    assert left_in(tmp_path) == ["a.gguf", "a.gguf.json", "c.gguf", "c.gguf.json"]
    held.close()


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
