import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny.cameras import fake_pipeline, plain

from edge_et.camera import BackgroundChange, watch
from edge_et.camera.sources import open_source
from edge_et.cancellation import CancelToken
from edge_et.errors import CameraError

cv2 = pytest.importorskip("cv2")

RATE = 20.0
QUESTION = "Which colour?"


@pytest.fixture
def stop() -> Iterator[CancelToken]:
    """A token that ends a test which would wait forever."""
    token = CancelToken()
    timer = threading.Timer(20, token.cancel)
    timer.start()
    yield token
    timer.cancel()


@pytest.fixture
def video(tmp_path: Path) -> Iterator[Any]:
    """An open video of a second, red at first and blue at last."""
    path = str(tmp_path / "video.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), RATE, (64, 48))
    for number in range(round(RATE)):
        picture = plain(20, 48, 64)
        picture[:, :, 0 if number < RATE / 2 else 2] = 220
        writer.write(picture[:, :, ::-1])
    writer.release()
    capture = cv2.VideoCapture(path)
    yield capture
    capture.release()


def test_a_video_is_seen_from_its_start_to_its_end_at_its_own_speed(
    video: Any, stop: CancelToken
) -> None:
    begun = time.monotonic()
    colours = [np.mean(item(), (0, 1)) for item in open_source(video)(stop) if callable(item)]
    assert time.monotonic() - begun >= (RATE - 1) / RATE
    # Red, green and blue, as the codec leaves them.
    assert np.abs(colours[0] - [220, 20, 20]).max() < 16
    assert np.abs(colours[-1] - [20, 20, 220]).max() < 16


def test_a_watch_ends_with_its_video(video: Any, tmp_path: Path) -> None:
    pipe, _ = fake_pipeline(tmp_path / "bundle")
    with watch(video, QUESTION, pipe, every=0) as events:
        told = list(events)
    assert all(event.answer is not None for event in told)
    assert len(told) > 1


def test_the_background_of_a_video_is_learnt(video: Any, tmp_path: Path) -> None:
    pipe, _ = fake_pipeline(tmp_path / "bundle")
    with watch(video, QUESTION, pipe, every=0, changed=BackgroundChange()) as events:
        assert next(events).answer is not None


def test_stopping_waits_for_no_frame_of_a_slow_video(video: Any) -> None:
    token = CancelToken()

    class Slow:
        """A video with a frame an hour."""

        def __getattr__(self, name: str) -> Any:
            return getattr(video, name)

        def get(self, property_id: int) -> float:
            is_rate = property_id == cv2.CAP_PROP_FPS
            return 1 / 3600 if is_rate else float(video.get(property_id))

    frames = open_source(Slow())(token)
    next(frames)
    threading.Timer(0.1, token.cancel).start()
    assert list(frames) == []


def test_a_camera_that_is_unplugged_is_an_error(stop: CancelToken) -> None:
    class Unplugged:
        left = 3

        def isOpened(self) -> bool:  # noqa: N802
            return True

        def get(self, property_id: int) -> float:
            return 0.0

        def grab(self) -> bool:
            self.left -= 1
            return self.left >= 0

        def retrieve(self) -> tuple[bool, Any]:
            return True, plain(9)

    frames = open_source(Unplugged())(stop)
    assert callable(next(frames))
    with pytest.raises(CameraError, match="was it unplugged"):
        next(frames)


def test_what_could_not_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="it is not open"):
        open_source(cv2.VideoCapture(str(tmp_path / "none.avi")))
