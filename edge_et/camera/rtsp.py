"""RTSP, which most network cameras speak, by PyAV, which holds FFmpeg. The only door to PyAV.

In: an address. Out: the frames of one connection. Every frame has to be decoded, since each is
told by its difference to others; its colours are converted when it is looked at.
"""

from collections.abc import Generator
from functools import partial
from time import monotonic
from typing import Any

from edge_et.camera.addresses import Address
from edge_et.camera.frames import STALLED_S, Decode
from edge_et.camera.reconnecting import ConnectionLostError
from edge_et.cancellation import CancelToken
from edge_et.errors import MissingExtraError


def import_av() -> Any:
    """Return PyAV.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import av
    except ModuleNotFoundError as err:
        raise MissingExtraError("av", "rtsp") from err
    return av


def read_rtsp(address: Address, stop: CancelToken) -> Generator[Decode, None, None]:
    """Read the frames of one connection, over TCP.

    Args:
        address: of rtsp or rtsps.
        stop: ends it, at the next packet, or after `STALLED_S` where none comes.

    Raises:
        ConnectionLostError: there are no frames, or no more.
        MissingExtraError: PyAV is not installed.
    """
    av = import_av()
    options = {"rtsp_transport": "tcp"}
    try:
        with av.open(address.url, options=options, timeout=STALLED_S) as container:
            if not container.streams.video:
                raise ConnectionLostError("it has no video", is_refusal=True)
            end = monotonic() + STALLED_S
            for packet in container.demux(container.streams.video[0]):
                if stop.is_cancelled:
                    return
                for frame in _decode(packet, av.error.InvalidDataError):
                    end = monotonic() + STALLED_S
                    yield partial(frame.to_ndarray, format="rgb24")
                if monotonic() > end:
                    raise ConnectionLostError(f"no frame for {STALLED_S:.0f} s")
    except av.error.FFmpegError as err:
        refusals = (
            av.error.HTTPUnauthorizedError,
            av.error.HTTPForbiddenError,
            av.error.HTTPNotFoundError,
            av.error.HTTPBadRequestError,
        )
        # Its own text holds the URL.
        reason = str(err.strerror or type(err).__name__)
        raise ConnectionLostError(reason, is_refusal=isinstance(err, refusals)) from None


def _decode(packet: Any, damaged: type[Exception]) -> list[Any]:
    """Return the frames of a packet; none if it is damaged, as after a lost packet before it."""
    try:
        return list(packet.decode())
    except damaged:
        return []
