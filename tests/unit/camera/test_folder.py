import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny.cameras import jpeg, plain

import edge_et.camera.folder as folder_module
from edge_et.camera.folder import read_folder
from edge_et.cancellation import CancelToken
from edge_et.errors import CameraError

POLL_S = 0.02


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_module, "POLL_S", POLL_S)


@pytest.fixture
def stop() -> Iterator[CancelToken]:
    """A token that ends a test which would wait forever."""
    token = CancelToken()
    timer = threading.Timer(10, token.cancel)
    timer.start()
    yield token
    timer.cancel()


def save(path: Path, value: int) -> None:
    path.write_bytes(jpeg(plain(value)))


def value_of(decode: object) -> int:
    assert callable(decode)
    return int(np.mean(decode()))


def test_the_newest_comes_and_then_what_appears(tmp_path: Path, stop: CancelToken) -> None:
    for name, value in (("b.jpg", 20), ("c.png", 30), ("a.jpg", 10)):
        Image.fromarray(plain(value)).save(tmp_path / name)
        time.sleep(0.02)  # coarser clocks than that tell no order
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".upload.jpg").write_bytes(jpeg(plain(99)))
    frames = read_folder(tmp_path, stop)
    assert value_of(next(frames)) == 10
    save(tmp_path / "0.jpg", 40)
    assert value_of(next(frames)) == 40


def test_what_appears_comes_in_the_order_in_which_it_was_finished(
    tmp_path: Path, stop: CancelToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = read_folder(tmp_path, stop)

    def put() -> None:
        monkeypatch.setattr(folder_module, "POLL_S", 0.3)  # all of them between two looks
        time.sleep(0.1)
        for name, value in (("b.jpg", 20), ("c.jpg", 30), ("a.jpg", 10)):
            save(tmp_path / name, value)
            time.sleep(0.02)

    thread = threading.Thread(target=put)
    thread.start()
    assert [value_of(next(frames)) for _ in range(3)] == [20, 30, 10]
    thread.join()


def test_a_clock_that_is_set_back_hides_nothing(
    tmp_path: Path, stop: CancelToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system sets times of change; here the files of the start seem to be of the future."""
    states = folder_module._states
    late = 10**18

    def from_the_future(folder: Path) -> Iterator[folder_module._State]:
        for state in states(folder):
            is_old = state.name == "old.jpg"
            yield state._replace(changed_ns=state.changed_ns + late) if is_old else state

    monkeypatch.setattr(folder_module, "_states", from_the_future)
    save(tmp_path / "old.jpg", 10)
    frames = read_folder(tmp_path, stop)
    assert value_of(next(frames)) == 10
    save(tmp_path / "new.jpg", 20)
    assert value_of(next(frames)) == 20


def test_what_is_no_file_is_passed_over(tmp_path: Path, stop: CancelToken) -> None:
    frames = read_folder(tmp_path, stop)
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "nowhere.jpg").symlink_to(tmp_path / "gone.jpg")
    save(tmp_path / "a.jpg", 10)
    assert value_of(next(frames)) == 10


def test_an_empty_file_waits_and_others_do_not_wait_for_it(
    tmp_path: Path, stop: CancelToken
) -> None:
    frames = read_folder(tmp_path, stop)
    (tmp_path / "empty.jpg").touch()
    time.sleep(0.02)
    save(tmp_path / "b.jpg", 10)
    assert value_of(next(frames)) == 10
    save(tmp_path / "empty.jpg", 20)
    assert value_of(next(frames)) == 20


def test_many_files_are_looked_at_less_often(
    tmp_path: Path, stop: CancelToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not more than a fifth of a CPU."""
    clock = iter(range(1000))  # a look takes a second of it
    pauses: list[float] = []

    def pause(seconds: float, stop: CancelToken) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(folder_module, "thread_time", lambda: float(next(clock)))
    monkeypatch.setattr(folder_module, "pause", pause)
    save(tmp_path / "a.jpg", 10)
    next(read_folder(tmp_path, stop))
    assert set(pauses) == {4.0}


def test_a_copy_with_an_old_date_is_new(tmp_path: Path, stop: CancelToken) -> None:
    save(tmp_path / "a.jpg", 10)
    frames = read_folder(tmp_path, stop)
    assert value_of(next(frames)) == 10
    old = tmp_path.parent / "old.jpg"
    save(old, 50)
    os.utime(old, (1e9, 1e9))
    shutil.copy2(old, tmp_path / "old.jpg")
    assert value_of(next(frames)) == 50


def test_a_file_that_is_renamed_into_the_folder_is_new(tmp_path: Path, stop: CancelToken) -> None:
    save(tmp_path / "a.jpg", 10)
    frames = read_folder(tmp_path, stop)
    assert value_of(next(frames)) == 10
    save(tmp_path / ".b.jpg", 60)
    (tmp_path / ".b.jpg").rename(tmp_path / "b.jpg")
    assert value_of(next(frames)) == 60


@pytest.mark.parametrize("name", ["half.jpg", "half.png"])
def test_half_of_a_file_waits_for_the_rest(tmp_path: Path, stop: CancelToken, name: str) -> None:
    Image.fromarray(plain(70, 100, 100)).save(tmp_path / ".whole", name[5:].replace("jpg", "jpeg"))
    whole = (tmp_path / ".whole").read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    frames = read_folder(tmp_path, stop)
    threading.Timer(0.3, (tmp_path / name).write_bytes, [whole]).start()
    assert value_of(next(frames)) == 70


def test_a_file_that_grows_waits_until_it_stands_still(
    tmp_path: Path, stop: CancelToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "POLL_S", 0.1)
    Image.fromarray(plain(80)).save(tmp_path / ".whole", "bmp")  # a format without an end
    whole = (tmp_path / ".whole").read_bytes()
    path = tmp_path / "grows.bmp"
    path.write_bytes(whole[:60])

    def grow() -> None:
        for size in range(60, len(whole), 60):
            path.write_bytes(whole[:size])
        path.write_bytes(whole)

    thread = threading.Timer(0.05, grow)
    thread.start()
    assert value_of(next(read_folder(tmp_path, stop))) == 80
    thread.join()


def test_a_file_that_stays_half_is_given_in_the_end(
    tmp_path: Path, stop: CancelToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_module, "PATIENCE_S", 0.2)
    (tmp_path / "half.jpg").write_bytes(jpeg(plain(9))[:200])
    assert callable(next(read_folder(tmp_path, stop)))


def test_a_file_is_written_over_and_given_again(tmp_path: Path, stop: CancelToken) -> None:
    save(tmp_path / "latest.jpg", 10)
    frames = read_folder(tmp_path, stop)
    assert value_of(next(frames)) == 10
    save(tmp_path / "latest.jpg", 90)
    assert value_of(next(frames)) == 90


def test_a_folder_that_goes_is_told(tmp_path: Path, stop: CancelToken) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    save(folder / "a.jpg", 1)
    frames = read_folder(folder, stop)
    next(frames)
    shutil.rmtree(folder)
    with pytest.raises(CameraError, match=r"frames: cannot be read: No such file"):
        next(frames)
