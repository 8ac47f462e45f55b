"""MJPEG over HTTP: a response of type multipart/x-mixed-replace, a JPEG in each part.

In: an address. Out: the frames of one connection. Redirects are not followed, and no proxy is
asked, so user and password go to this host alone.
"""

import http.client
import re
import socket
import urllib.request
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from functools import partial
from time import monotonic
from typing import Any
from urllib.error import HTTPError, URLError

from edge_et.camera.addresses import Address
from edge_et.camera.frames import STALLED_S, Decode, decode_picture
from edge_et.camera.reconnecting import ConnectionLostError
from edge_et.cancellation import CancelToken

MOST_BYTES = 32 * 2**20
"""Of a frame with its headers."""

_CHUNK_BYTES = 2**16

_OF_THE_MOMENT = (408, 429)  # a request that took too long, and too many of them


def read_mjpeg(address: Address, stop: CancelToken) -> Generator[Decode, None, None]:
    """Read the frames of one connection.

    Args:
        address: of http or https.
        stop: ends it at once.

    Raises:
        ConnectionLostError: there are no frames, or no more.
    """
    sockets: list[socket.socket] = []

    def hang_up() -> None:
        for opened in sockets:
            with suppress(OSError):
                socket.socket.shutdown(opened, socket.SHUT_RDWR)

    try:
        with stop.watch(hang_up), closing(_request(address, sockets)) as response:
            parts = _Parts(response.read1, _boundary(response.headers))
            while not stop.is_cancelled:
                yield partial(decode_picture, parts.read())
    except HTTPError as err:
        with err:
            reason = f"it answers with status {err.code}"
        if err.code == 401:
            reason += ": user or password are missing or wrong"
        is_refusal = 400 <= err.code < 500 and err.code not in _OF_THE_MOMENT
        raise ConnectionLostError(reason, is_refusal=is_refusal) from None
    except TimeoutError:
        raise ConnectionLostError(f"no frame for {STALLED_S:.0f} s") from None
    except URLError as err:
        raise ConnectionLostError(_reason(err.reason)) from None
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as err:
        # AttributeError: http.client's, where a socket is shut down while it is read.
        if stop.is_cancelled:
            return
        raise ConnectionLostError(_reason(err)) from None


class _Parts:
    """Takes a multipart body apart as it comes."""

    def __init__(self, read: Callable[[int], bytes], boundary: bytes) -> None:
        self._read = read
        self._delimiter = re.compile(rb"(?:^|\n)-*" + re.escape(boundary) + rb"-*[ \t]*\r?\n")
        self._buffer = bytearray()
        self._end = monotonic() + STALLED_S

    def read(self) -> bytes:
        """Return the content of the next part.

        Raises:
            TimeoutError: it does not come.
            ConnectionLostError: it is too long, or the connection has ended.
        """
        self._end = monotonic() + STALLED_S
        self._through(self._delimiter)
        # A part without headers begins with the empty line that ends them.
        head = self._through(re.compile(rb"(?:^|\r?\n)\r?\n"))
        length = re.search(rb"(?im)^content-length:[ \t]*(\d{1,9})[ \t]*\r?$", head)
        if length is None:
            content = self._through(self._delimiter, keep=True)
            return content.removesuffix(b"\r")
        size = int(length[1])
        while len(self._buffer) < size:
            self._fill(size)
        content = bytes(self._buffer[:size])
        del self._buffer[:size]
        return content

    def _through(self, pattern: re.Pattern[bytes], *, keep: bool = False) -> bytes:
        """Return what stands before a match and take it away, with the match unless it is kept."""
        searched = 0
        while (found := pattern.search(self._buffer, searched)) is None:
            searched = max(0, len(self._buffer) - 256)  # longer than any delimiter
            self._fill(len(self._buffer) + 1)
        before = bytes(self._buffer[: found.start()])
        del self._buffer[: found.start() if keep else found.end()]
        return before

    def _fill(self, size: int) -> None:
        if size > MOST_BYTES:
            raise ConnectionLostError(f"a frame has more than {MOST_BYTES} bytes")
        if monotonic() > self._end:
            raise TimeoutError
        chunk = self._read(_CHUNK_BYTES)
        if not chunk:
            raise ConnectionLostError("it ended the connection")
        self._buffer += chunk


def _boundary(headers: http.client.HTTPMessage) -> bytes:
    """Return the boundary between parts, without the dashes that some cameras put before it.

    Raises:
        ConnectionLostError: the response is no stream of pictures.
    """
    kind, boundary = headers.get_content_type(), headers.get_boundary()
    if not kind.startswith("multipart/") or not boundary or len(boundary) > 200:
        kind = re.sub(r"[^\w/+.-]", "?", kind)[:80]
        raise ConnectionLostError(
            f"it answers with {kind}, which is no stream of multipart/x-mixed-replace: use the "
            "address of the camera's MJPEG stream",
            is_refusal=True,
        )
    return boundary.strip("-").encode("latin-1", "replace")


def _request(address: Address, sockets: list[socket.socket]) -> Any:
    """Return the response to a GET; its sockets are remembered, so that they can be shut down."""
    passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
    if address.user is not None:
        passwords.add_password(None, address.bare_url, address.user, address.password or "")
    opener = urllib.request.OpenerDirector()
    for handler in (
        _Handler(sockets),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Digest(passwords),
        _Basic(passwords),
    ):
        opener.add_handler(handler)
    return opener.open(address.bare_url, timeout=STALLED_S)


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    def __init__(self, sockets: list[socket.socket]) -> None:
        super().__init__()
        self._sockets = sockets

    def http_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(partial(_Noted, self._sockets), request)

    def https_open(self, request: urllib.request.Request) -> Any:
        return self.do_open(partial(_NotedTls, self._sockets), request)


class _Digest(urllib.request.HTTPDigestAuthHandler):
    """Takes the offer that it can answer, where urllib looks at the first one alone.

    Cameras offer SHA-256 before MD5, or another scheme before Digest.
    """

    def http_error_401(
        self,
        req: urllib.request.Request,
        fp: Any,
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
    ) -> Any:
        for offer in headers.get_all("WWW-Authenticate", ()):
            if _is_answered(offer):
                chosen = http.client.HTTPMessage()
                chosen["WWW-Authenticate"] = offer
                return super().http_error_401(req, fp, code, msg, chosen)
        return None


def _is_answered(offer: str) -> bool:
    """Return whether urllib can answer an offer of Digest."""
    algorithm = re.search(r'(?i)\balgorithm\s*=\s*"?([\w-]+)', offer)
    is_known = algorithm is None or algorithm[1] in ("MD5", "SHA")
    return is_known and offer.lower().startswith("digest ")


class _Basic(urllib.request.HTTPBasicAuthHandler):
    """Is asked last, and says so where a camera offers nothing that can be answered."""

    def http_error_401(
        self,
        req: urllib.request.Request,
        fp: Any,
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
    ) -> Any:
        try:
            return super().http_error_401(req, fp, code, msg, headers)
        except ValueError:
            raise ConnectionLostError(
                "it asks for user and password in a way that is not known here: Basic, and Digest "
                "with MD5 or SHA are",
                is_refusal=True,
            ) from None


class _Noted(http.client.HTTPConnection):
    """A connection whose socket is known from outside, so that it can be hung up."""

    def __init__(self, sockets: list[socket.socket], *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self._sockets = sockets

    def connect(self) -> None:
        super().connect()
        self._sockets.append(self.sock)


class _NotedTls(_Noted, http.client.HTTPSConnection):
    """The same with TLS, which the next class in the order of resolution brings."""


def _reason(err: object) -> str:
    if isinstance(err, TimeoutError):
        return f"no answer for {STALLED_S:.0f} s"
    if isinstance(err, OSError) and err.strerror:
        return err.strerror.lower()
    return f"it does not speak HTTP as expected ({type(err).__name__})"
