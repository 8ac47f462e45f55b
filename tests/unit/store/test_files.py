import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_et.errors import CacheFolderError
from edge_et.store import atomic_write, partial_folder, user_cache


def test_a_file_appears_whole_and_alone(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "file.gguf"
    with atomic_write(target) as path:
        assert path != target
        assert path.name == target.name  # some writers put it to use
        path.write_text("half")
        assert not target.exists()
        path.write_text("whole")
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with target.open() as reader:
        with atomic_write(target) as path:
            path.write_text("new")
            assert target.read_text() == "old"
        assert target.read_text() == "new"
        assert reader.read() == "old"  # who reads it already is not cut short


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_child_that_is_forked_meanwhile_deletes_nothing(tmp_path: Path) -> None:
    script = """
import os, sys, threading
from pathlib import Path
from edge_et.store import atomic_write

begun, forked = threading.Event(), threading.Event()

def write():
    with atomic_write(Path(sys.argv[1])) as path:
        begun.set()
        forked.wait()
        path.write_text("whole")

thread = threading.Thread(target=write)
thread.start()
begun.wait()
if child := os.fork():
    os.waitpid(child, 0)
    forked.set()
    thread.join()
"""
    target = tmp_path / "file"
    subprocess.run([sys.executable, "-c", script, target], check=True)
    assert target.read_text() == "whole"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_keeps_the_older_file_and_leaves_nothing(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(error), atomic_write(target) as path:  # noqa: PT012
        path.write_text("half")
        path.with_name("beside").write_text("of a writer that makes two files")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_writer_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), atomic_write(target):
        pass
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_caches_lie_where_the_user_wants_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert user_cache() == tmp_path / "caches" / "edge-et"
    assert not user_cache().exists()
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # as good as unset
    assert user_cache() == tmp_path / ".cache" / "edge-et"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert user_cache() == tmp_path / ".cache" / "edge-et"


@pytest.mark.parametrize("caches", ["relative", "~/caches", "."])
def test_a_relative_folder_for_caches_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caches: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", caches)
    assert user_cache() == tmp_path / ".cache" / "edge-et"


@pytest.mark.parametrize("home", [None, "relative"])
def test_a_user_without_a_home_is_told_what_to_set(
    monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    def unknown(_: int) -> None:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    if home is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", home)
    with pytest.raises(CacheFolderError, match="set XDG_CACHE_HOME"):
        user_cache()


def test_a_partial_folder_takes_the_abandoned_ones_along(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from edge_et.store import partial_folder\n"
        "with partial_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').touch(); print(folder.name, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        other = tmp_path / process.stdout.readline().decode().strip()
        os.utime(other, (0, 0))
        with partial_folder(tmp_path) as mine:
            assert sorted(tmp_path.iterdir()) == sorted([mine, other])
        process.kill()
    os.utime(other, (0, 0))
    with partial_folder(tmp_path) as mine:
        assert list(tmp_path.iterdir()) == [mine]
    assert list(tmp_path.iterdir()) == []
