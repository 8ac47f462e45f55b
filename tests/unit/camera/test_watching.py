import gc
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny.cameras import PASSWORD, FakePicamera2, SlowTower, fake_pipeline, plain

import edge_et
import edge_et.camera.sources as sources
from edge_et.camera import BlockChange, watch
from edge_et.camera.watching import MOST_FAILURES
from edge_et.errors import CameraError, ImageInputError, OptionError

QUESTION = "Which colour?"


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "edge-et-camera"]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    gc.collect()
    end = time.monotonic() + 5
    while readers() and time.monotonic() < end:
        time.sleep(0.01)
    assert readers() == []


class Film:
    """Frames that come when the test says so; remembers which of them are alive."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frames: list[NDArray[np.uint8]] = []
        self._has_ended = False
        self.alive: weakref.WeakSet[Any] = weakref.WeakSet()
        self.most_alive = 0

    def show(self, *values: int) -> None:
        """Give frames, and return when all were read."""
        for value in values:
            with self._changed:
                self._frames.append(plain(value))
                self._changed.notify_all()
                self._changed.wait_for(lambda: not self._frames, 10)

    def end(self) -> None:
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._frames or self._has_ended, 20)
                if not self._frames:
                    return
                frame = self._frames.pop()
                self.alive.add(Tracked(frame))
                self._changed.notify_all()
            yield frame


class Tracked:
    """Dies with an array, of which weak references cannot be counted in a set."""

    def __init__(self, array: NDArray[np.uint8]) -> None:
        weakref.finalize(array, lambda kept: None, self)


def test_the_newest_frame_wins_and_the_others_are_counted(tmp_path: Path) -> None:
    tower = SlowTower()
    tower.is_free.clear()
    pipe, _ = fake_pipeline(tmp_path, tower)
    film = Film()

    def shoot() -> None:
        film.show(1)
        tower.looking.acquire(timeout=10)  # the first frame is looked at
        film.show(2, 3, 4, 5)
        time.sleep(0.1)  # the last one is put down
        tower.is_free.set()
        film.end()

    camera = threading.Thread(target=shoot)
    camera.start()
    with watch(film, QUESTION, pipe, every=0) as events:
        first, second = events
    camera.join()
    assert first.answer is not None
    assert (first.answer.text, first.frame.number if first.frame else None) == ("red", 0)
    assert second.frame is not None
    assert (second.frame.number, int(second.frame.picture[0, 0, 0])) == (4, 5)
    assert first.dropped + second.dropped == 3
    assert second.time > first.time


def test_frames_that_are_dropped_are_freed(tmp_path: Path) -> None:
    tower = SlowTower()
    tower.is_free.clear()
    pipe, _ = fake_pipeline(tmp_path, tower)
    film = Film()
    alive: list[int] = []

    def shoot() -> None:
        film.show(1)
        tower.looking.acquire(timeout=10)
        for value in range(2, 60):
            film.show(value)
            alive.append(len(film.alive))
        tower.is_free.set()
        film.end()

    camera = threading.Thread(target=shoot)
    camera.start()
    with watch(film, QUESTION, pipe, every=0) as events:
        assert len(list(events)) == 2
    camera.join()
    assert len(alive) == 58
    assert max(alive) <= 5  # the one asked about, the newest, and those on their way


def test_a_bad_frame_is_an_event_and_many_in_a_row_are_an_error(tmp_path: Path) -> None:
    pipe, _ = fake_pipeline(tmp_path)
    pictures = iter([b"no picture", plain(3), *[np.zeros((2, 2), np.uint8)] * 30])
    with watch(lambda: next(pictures), QUESTION, pipe, every=0) as events:
        first, second = next(events), next(events)
        assert first.answer is None
        assert "cannot decode" in str(first.error)
        assert first.to_dict()["error"] == str(first.error)
        assert second.answer is not None
        for _ in range(MOST_FAILURES):
            assert isinstance(next(events).error, ImageInputError)
        with pytest.raises(ImageInputError):
            next(events)
        assert list(events) == []


def test_what_another_frame_does_not_help_against_is_raised(tmp_path: Path) -> None:
    pipe, _ = fake_pipeline(tmp_path)
    pipe.close()
    with pytest.raises(edge_et.errors.ClosedError):
        next(watch([plain(1)], QUESTION, pipe))


def test_a_model_that_fails_once_is_told_and_asked_again(tmp_path: Path) -> None:
    pipe, cache = fake_pipeline(tmp_path)
    cache.fail = True
    with watch(lambda: plain(9), QUESTION, pipe, every=0) as events:
        assert "told to fail" in str(next(events).error)
        assert next(events).answer is not None


def test_frames_that_have_not_changed_are_not_asked_about(tmp_path: Path) -> None:
    pipe, _ = fake_pipeline(tmp_path)
    figure = plain(90, 240, 320)
    figure[50:120, 100:130] = 160
    shown = [plain(90, 240, 320)] * 2 + [figure] * 2
    with watch(
        lambda: shown.pop(0) if len(shown) > 1 else shown[0],
        QUESTION,
        pipe,
        every=0,
        changed=BlockChange(),
    ) as events:
        first, second = next(events), next(events)
        threading.Timer(1.0, events.close).start()
        assert list(events) == []
    assert first.frame is not None
    assert second.frame is not None
    assert int(first.frame.picture.max()) == 90
    assert int(second.frame.picture.max()) == 160


def test_looks_are_apart_by_every(tmp_path: Path) -> None:
    pipe, _ = fake_pipeline(tmp_path)
    with watch(lambda: plain(1), QUESTION, pipe, every=1000) as events:
        next(events)
        threading.Timer(0.5, events.close).start()
        assert list(events) == []


def test_closing_ends_an_answer_under_way(tmp_path: Path) -> None:
    tower = SlowTower()
    tower.is_free.clear()
    pipe, _ = fake_pipeline(tmp_path, tower)
    events = watch([plain(1)], QUESTION, pipe)

    def close() -> None:
        tower.looking.acquire(timeout=10)
        events.close()

    thread = threading.Thread(target=close)
    thread.start()
    assert list(events) == []
    thread.join()
    assert tower.cancelled.is_set()
    events.close()


def test_an_interrupt_ends_the_watch(tmp_path: Path) -> None:
    pipe, _ = fake_pipeline(tmp_path)

    class Interrupting:
        def has_changed(self, frame: object) -> bool:
            raise KeyboardInterrupt

    events = watch(lambda: plain(1), QUESTION, pipe, changed=Interrupting())
    with pytest.raises(KeyboardInterrupt):
        next(events)
    assert readers() == []
    assert list(events) == []


def test_a_watch_that_is_forgotten_ends(tmp_path: Path) -> None:
    pipe, _ = fake_pipeline(tmp_path)
    for event in watch(lambda: plain(1), QUESTION, pipe):
        assert event.answer is not None
        break  # the fixture looks for its thread


def test_what_a_source_of_the_callers_raises_comes_as_it_is(tmp_path: Path) -> None:
    pipe, _ = fake_pipeline(tmp_path)

    def broken() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        next(watch(broken, QUESTION, pipe))


PIXEL = np.array([10, 20, 30], np.uint8)  # red, green, blue


@pytest.mark.parametrize(
    ("name", "order"),
    [
        ("RGB888", (2, 1, 0)),
        ("BGR888", (0, 1, 2)),
        ("XRGB8888", (2, 1, 0, 0)),
        ("XBGR8888", (0, 1, 2, 0)),
    ],
)
def test_the_layouts_of_picamera2_become_rgb(
    tmp_path: Path, name: str, order: tuple[int, ...]
) -> None:
    pipe, _ = fake_pipeline(tmp_path)
    camera = FakePicamera2(name, np.tile(PIXEL[list(order)], (24, 32, 1)))
    with watch(camera, QUESTION, pipe) as events:
        frame = next(events).frame
    assert frame is not None
    assert frame.picture.shape == (24, 32, 3)
    assert (frame.picture == PIXEL).all()


def test_a_picamera2_that_stalls_is_told_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "STALLED_S", 0.1)
    pipe, _ = fake_pipeline(tmp_path)
    camera = FakePicamera2("RGB888", plain(3))
    camera.is_stalled = True
    with watch(camera, QUESTION, pipe) as events:
        lost = next(events)
        camera.go_on()
        assert isinstance(lost.error, CameraError)
        event = next(events)
        while event.answer is None:
            event = next(events)
    assert len(camera.jobs) <= 2  # a camera that stalls is not asked for more and more


def test_cameras_that_cannot_be_used_are_refused_at_once(tmp_path: Path) -> None:
    pipe, _ = fake_pipeline(tmp_path)
    with pytest.raises(CameraError, match=r'format YUV420: .*"RGB888"'):
        watch(FakePicamera2("YUV420", plain(1)), QUESTION, pipe)
    with pytest.raises(CameraError, match=r"call its start\(\) first"):
        watch(FakePicamera2("RGB888", plain(1), started=False), QUESTION, pipe)


@pytest.mark.parametrize(
    ("source", "options", "named"),
    [
        (3, {}, "source"),
        (plain(1), {}, "source"),
        ("no/such/folder", {}, "source"),
        ([plain(1)], {"every": -1}, "every"),
        ([plain(1)], {"every": float("inf")}, "every"),
        ([plain(1)], {"every": True}, "every"),
        ([plain(1)], {"changed": True}, "changed"),
        ([plain(1)], {"every": float("nan")}, "every"),
        ([plain(1)], {"deadline_s": -1}, "deadline_s"),
        ([plain(1)], {"question": " "}, "question"),
        ([plain(1)], {"question": None}, "question"),
        ([plain(1)], {"hint": " "}, "hint"),
        ([plain(1)], {"choices": ()}, "choices"),
        ([plain(1)], {"choices": ("a", "a")}, "choices"),
        ([plain(1)], {"choices": ("a", "b"), "kind": "number"}, "kind"),
        ([plain(1)], {"choices": ("a", "b"), "stop": ["."]}, "stop"),
    ],
)
def test_arguments_are_checked_before_anything_is_loaded(
    source: object, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(OptionError, match=f"^{named}="):
        watch(source, model="no such bundle", **{"question": QUESTION, **options})


def test_an_open_file_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "frame.jpg").write_bytes(b"\n" * 20)
    with (
        (tmp_path / "frame.jpg").open("rb") as file,
        pytest.raises(OptionError, match="source='BufferedReader'"),
    ):
        watch(file, QUESTION)


@pytest.mark.parametrize(
    "mistyped",
    [f"rtsp:/me:{PASSWORD}@camera/live", f"me:{PASSWORD}@camera/live", f" http://{PASSWORD}/"],
)
def test_a_mistyped_url_is_not_told(mistyped: str) -> None:
    with pytest.raises(OptionError, match="source='<url>'") as caught:
        watch(mistyped, QUESTION)
    assert PASSWORD not in str(caught.value)


def test_a_path_that_is_no_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "video.avi").touch()
    with pytest.raises(OptionError, match=r"video\.avi.*open .* with cv2\.VideoCapture"):
        watch(tmp_path / "video.avi", QUESTION)
