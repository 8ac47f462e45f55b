"""Sources of frames: what a caller gives, by its kind.

In: a URL, a folder, a `Picamera2`, a `cv2.VideoCapture`, a callable or an iterable. Out: what reads
frames of it. Only what cannot be a source at all is refused here; whether there is a camera behind
it shows when it is read.
"""

import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from io import IOBase
from pathlib import Path
from time import monotonic
from typing import Any, cast

import numpy as np
from PIL import Image

from edge_et.camera.addresses import is_url, read_address
from edge_et.camera.folder import read_folder
from edge_et.camera.frames import STALLED_S, Layout, decode_picture, to_rgb
from edge_et.camera.latest_frame import FrameReader, Frames
from edge_et.camera.mjpeg import read_mjpeg
from edge_et.camera.pauses import pause
from edge_et.camera.reconnecting import reconnecting
from edge_et.camera.rtsp import read_rtsp
from edge_et.cancellation import CancelToken
from edge_et.errors import CameraError, OptionError
from edge_et.image import ImageSource

Source = str | os.PathLike[str] | Callable[[], ImageSource | None] | Iterable[ImageSource] | Any
"""What can be watched; see `watch`."""

FRAME_S = 0.2
"""Seconds between frames at least, of cameras that are asked for each."""

# Picamera2 names formats as libcamera does, by the bits of a little-endian word, so that their
# bytes lie in memory the other way round. Source: the Picamera2 manual, appendix A.
PICAMERA2_LAYOUTS: dict[str, Layout] = {
    "BGR888": "RGB",
    "RGB888": "BGR",
    "XBGR8888": "RGBX",
    "XRGB8888": "BGRX",
}


def open_source(source: Source) -> FrameReader:
    """Return what reads the frames of a source.

    Args:
        source: see `watch`.

    Raises:
        OptionError: it is no source of frames.
        CameraError: it is one, and cannot be used as it is.
    """
    if isinstance(source, str) and is_url(source):
        address = read_address(source)
        once = read_rtsp if address.scheme in ("rtsp", "rtsps") else read_mjpeg
        return partial(reconnecting, partial(once, address), address.shown)
    if isinstance(source, str | os.PathLike):
        folder = Path(source)
        if not folder.is_dir():
            raise OptionError(
                "source",
                _shown(os.fspath(source)),
                "a URL, or a folder that is there; open a device or a video with cv2.VideoCapture",
            )
        return partial(read_folder, folder)
    if hasattr(source, "capture_array") and hasattr(source, "camera_configuration"):
        return partial(_read_picamera2, source, _picamera2_layout(source))
    if hasattr(source, "grab") and hasattr(source, "retrieve"):
        capture: Any = source
        if not capture.isOpened():
            raise CameraError("the video capture", "it is not open: is the camera there, and free?")
        return partial(_read_capture, capture)
    if callable(source):
        return partial(_read_callable, source)
    is_picture = isinstance(source, bytes | bytearray | np.ndarray | Image.Image | IOBase)
    if isinstance(source, Iterable) and not is_picture:
        return partial(_read_iterable, source)
    raise OptionError(
        "source",
        type(source).__name__,
        "a URL, a folder, a Picamera2, a cv2.VideoCapture, or a callable or iterable of pictures",
    )


def _shown(path: str) -> str:
    """Return a path as it may be told; a mistyped URL may hold a password."""
    is_url_perhaps = re.match(r"\s*[A-Za-z]{2,}:", path) is not None or "@" in path
    return "<url>" if is_url_perhaps else path


def _read_callable(function: Callable[[], ImageSource | None], stop: CancelToken) -> Frames:
    while not stop.is_cancelled:
        picture = function()
        if picture is not None:
            yield partial(decode_picture, picture)
        pause(FRAME_S, stop)


def _read_iterable(pictures: Iterable[ImageSource], stop: CancelToken) -> Frames:
    for picture in pictures:
        yield partial(decode_picture, picture)


def _picamera2_layout(camera: Any) -> Layout:
    """Return how the main stream of a camera lies in memory.

    Raises:
        CameraError: the camera is not started, or of a format that is not read.
    """
    if not getattr(camera, "started", True):
        raise CameraError("the Picamera2", "it is not started: call its start() first")
    name = str(camera.camera_configuration()["main"]["format"])
    if name not in PICAMERA2_LAYOUTS:
        formats = ", ".join(PICAMERA2_LAYOUTS)
        raise CameraError(
            "the Picamera2",
            f"its main stream has the format {name}: configure it with one of {formats}, as in "
            'create_video_configuration({"format": "RGB888"})',
        )
    return PICAMERA2_LAYOUTS[name]


def _read_picamera2(camera: Any, layout: Layout, stop: CancelToken) -> Frames:
    while not stop.is_cancelled:
        job = camera.capture_array("main", wait=False)
        end = monotonic() + STALLED_S
        while not stop.is_cancelled:
            try:
                array = camera.wait(job, timeout=0.5)
            except (FutureTimeoutError, TimeoutError):
                if monotonic() > end:
                    end = monotonic() + STALLED_S
                    yield CameraError("the Picamera2", f"no frame for {STALLED_S:.0f} s")
                continue
            yield partial(to_rgb, array, layout)
            break
        pause(FRAME_S, stop)


def _read_capture(capture: Any, stop: CancelToken) -> Frames:
    """Read a `cv2.VideoCapture`: a camera as its frames come, a file at the speed of the video.

    All frames are grabbed, and few of them decoded.
    """
    is_file = capture.get(_CAP_PROP_FRAME_COUNT) > 0
    rate = capture.get(_CAP_PROP_FPS)
    grab_s = 1 / rate if 0 < rate < _MOST_FPS else FRAME_S
    grab_due = due = monotonic()
    while not stop.is_cancelled:
        if not capture.grab():
            if is_file:
                return
            raise CameraError("the video capture", "it gives no more frames: was it unplugged?")
        if monotonic() >= due:
            due = monotonic() + FRAME_S
            is_there, array = capture.retrieve()
            if is_there:
                yield partial(to_rgb, cast(Any, array), "BGR")
        if is_file:
            grab_due += grab_s
            pause(grab_due - monotonic(), stop)


# OpenCV's numbers, so that it need not be imported here.
_CAP_PROP_FPS = 5
_CAP_PROP_FRAME_COUNT = 7

_MOST_FPS = 1000.0  # more is a file that does not tell
