import shutil
from pathlib import Path

import pytest

from edge_et.errors import MissingExtraError
from edge_et.export.errors import OutputError
from edge_et.export.steps import atomic_output, needing_extra, put_in_place, work_folder


def test_a_missing_package_names_the_extra() -> None:
    message = r'pip install "edge-et\[export\]"'
    with pytest.raises(MissingExtraError, match=message), needing_extra("export"):
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
