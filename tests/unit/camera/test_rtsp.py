import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from tiny.cameras import PASSWORD, RtspServer, plain, transport_stream

import edge_et.camera.reconnecting as reconnecting
import edge_et.camera.rtsp as rtsp
from edge_et.camera.latest_frame import Frames
from edge_et.camera.sources import open_source
from edge_et.cancellation import CancelToken
from edge_et.errors import CameraError, MissingExtraError

RED = plain(0, 64, 96) + np.array([220, 30, 30], np.uint8)


@pytest.fixture(scope="module")
def stream() -> bytes:
    return transport_stream([RED] * 50)


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Iterator[CancelToken]:
    """A token that ends a test which would wait forever."""
    monkeypatch.setattr(reconnecting, "FIRST_WAIT_S", 0.02)
    token = CancelToken()
    timer = threading.Timer(20, token.cancel)
    timer.start()
    yield token
    timer.cancel()


def frames_of(url: str, stop: CancelToken) -> Frames:
    return open_source(url)(stop)


def test_frames_come_in_their_colours(stream: bytes, stop: CancelToken) -> None:
    with (
        RtspServer(stream, credentials=("me", PASSWORD)) as server,
        closing(frames_of(f"rtsp://me:{PASSWORD}@{server.address}/live", stop)) as frames,
    ):
        decode = next(frames)
        assert callable(decode), decode
        picture = decode()
    assert picture.shape == RED.shape
    assert np.abs(picture.astype(int) - RED).max() < 16  # what the codec leaves of it


def test_a_camera_that_stalls_or_hangs_up_is_connected_to_again(
    stream: bytes, stop: CancelToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rtsp, "STALLED_S", 1.0)
    with (
        RtspServer(stream) as server,
        closing(frames_of(f"rtsp://{server.address}/live", stop)) as frames,
    ):
        seen = [isinstance(next(frames), CameraError)]
        while seen[-2:] != [True, False]:
            seen.append(isinstance(next(frames), CameraError))
        assert server.connections == 2


def test_a_wrong_password_is_an_error_without_secrets(
    stream: bytes,
    stop: CancelToken,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    with RtspServer(stream, credentials=("me", "another")) as server:
        with pytest.raises(CameraError) as caught:
            next(frames_of(f"rtsp://me:{PASSWORD}@{server.address}/{PASSWORD}", stop))
        assert caught.value.source == f"rtsp://{server.address}"
    written = capfd.readouterr()
    assert PASSWORD not in str(caught.value) + caplog.text + written.out + written.err
    assert caught.value.__suppress_context__


def test_pyav_is_asked_for_by_name(stop: CancelToken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"edge-et\[rtsp\]"):
        next(frames_of("rtsp://127.0.0.1/live", stop))
