import errno
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from edge_et.errors import MissingExtraError
from edge_et.export.errors import DiskSpaceError, OutputError
from edge_et.export.steps import (
    atomic_output,
    needing_extra,
    put_in_place,
    require_disk,
    work_folder,
)


def test_a_missing_package_names_the_extra() -> None:
    message = r'pip install "edge-et\[export\]"'
    with pytest.raises(MissingExtraError, match=message), needing_extra("export"):
        import no_such_package_at_all  # noqa: F401


def test_the_outermost_extra_is_named() -> None:
    message = r'pip install "edge-et\[export\]"'
    with (
        pytest.raises(MissingExtraError, match=message),
        needing_extra("export"),
        needing_extra("assemble"),
    ):
        import no_such_package_at_all  # noqa: F401


def test_a_missing_module_of_our_own_is_a_bug_and_stays_one() -> None:
    with pytest.raises(ModuleNotFoundError), needing_extra("export"):
        import edge_et.no_such_module  # noqa: F401


def write_half(out: Path) -> None:
    with atomic_output(out) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError


def test_output_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "made" / "file.bin"
    with pytest.raises(RuntimeError):
        write_half(out)
    assert list(out.parent.iterdir()) == []
    with atomic_output(out) as temporary:
        temporary.write_bytes(b"whole")
        assert not out.exists()
    assert out.read_bytes() == b"whole"
    assert list(out.parent.iterdir()) == [out]


def test_places_that_cannot_be_written_are_our_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with (
        pytest.raises(OutputError, match=r"cannot write .*out"),
        atomic_output(tmp_path / "file" / "out"),
    ):
        pass
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "content").write_text("kept")
    with (
        pytest.raises(OutputError, match="directory"),
        atomic_output(tmp_path / "folder") as temporary,
    ):
        temporary.write_bytes(b"whole")
    assert (tmp_path / "folder" / "content").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def leave(free_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**12, 0, free_bytes))


def test_room_on_disk_is_counted_by_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(3_000_000_000, monkeypatch)
    places = tmp_path / "cache" / "deeper", tmp_path / "out"
    require_disk([(places[0], 1_000_000_000), (places[1], 2_000_000_000)])
    with pytest.raises(DiskSpaceError, match=r"needs 3000\.1 MB and has 3000\.0 MB") as caught:
        require_disk([(places[0], 1_000_000_000), (places[1], 2_000_100_000)])
    assert (caught.value.needed_bytes, caught.value.free_bytes) == (3_000_100_000, 3_000_000_000)


@pytest.mark.parametrize(
    ("error", "free_bytes"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 10**9),
        (OSError("96 requested and 0 written"), 0),
        (RuntimeError("the library says something"), 4095),
    ],
)
def test_a_full_disk_is_told_with_the_folder_and_in_megabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, free_bytes: int
) -> None:
    leave(free_bytes, monkeypatch)
    out = tmp_path / "model.gguf"
    message = rf"{tmp_path} needs more than .* MB and has .* MB free; make room"
    with pytest.raises(DiskSpaceError, match=message) as caught, atomic_output(out) as temporary:  # noqa: PT012
        temporary.write_bytes(bytes(2_000_000))
        raise error
    assert caught.value.free_bytes == 2_000_000 + free_bytes
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_is_removed_and_what_is_in_use_stays(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from edge_et.store import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as out:\n"
        "    out.write_text('half'); print('written', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (left,) = tmp_path.iterdir()
        os.utime(left, (0, 0))
        with atomic_output(tmp_path / "other") as temporary:
            temporary.write_text("whole")
        assert left.is_dir()
        process.kill()
    os.utime(left, (0, 0))
    with atomic_output(tmp_path / "out") as temporary:
        temporary.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out"]


def test_a_failure_keeps_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "file.bin"
    out.write_bytes(b"before")
    with pytest.raises(RuntimeError):
        write_half(out)
    assert out.read_bytes() == b"before"


def test_a_work_folder_vanishes_and_takes_leftovers_of_a_killed_run_along(tmp_path: Path) -> None:
    out = tmp_path / "made" / "bundle"
    with work_folder(out) as folder:
        (folder / "large.bin").write_bytes(b"half")
        (folder / "inner").mkdir()
        left = folder.parent / "left"
        shutil.copytree(folder, left)
    assert list(out.parent.iterdir()) == [left]
    left.rename(folder)
    with work_folder(out) as again:
        assert [path.name for path in again.iterdir()] == ["lock"]
        with pytest.raises(OutputError, match="another process"), work_folder(out):
            pass
        (again / "new").mkdir()
        put_in_place(again / "new", out)
    assert list(out.parent.iterdir()) == [out]
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OutputError, match="cannot write"), work_folder(tmp_path / "file" / "out"):
        pass


def test_what_is_put_in_place_replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "new").write_text("new")
    (tmp_path / "out").write_text("old")
    put_in_place(tmp_path / "work" / "new", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "new"
    with pytest.raises(OutputError, match="cannot write"):
        put_in_place(tmp_path / "missing", tmp_path / "out2")
