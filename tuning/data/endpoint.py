"""A model behind an OpenAI-compatible endpoint: one request at a time, paced, tried again.

In: a prompt, and maybe a picture. Out: the text of the reply. What the text is for is not known
here.
"""

from __future__ import annotations

import base64
import http.client
import io
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
from PIL import Image

from edge_et.errors import TuningError
from edge_et.tuning.data.describers import RowError

_TIMEOUT_S = 180.0
_TRIES = 5
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 300.0
_LONGEST_SIDE = 1024
_JPEG_QUALITY = 90
_MAX_REPLY_BYTES = 1 << 20
_BUSY = 429
# What may have passed when the same is sent again.
_PASSING = (408, _BUSY, 500, 502, 503, 504, 529)
# What another row, with another content, may not meet.
_ABOUT_THE_ROW = (400, 413, 415, 422)


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]


class _PassingError(Exception):
    """A try that failed, and that may be repeated."""

    def __init__(self, reason: str, *, wait_s: float = 0.0, of_the_row: bool = False) -> None:
        self.wait_s = wait_s
        self.of_the_row = of_the_row
        super().__init__(reason)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Leaves redirects alone: following one would carry the key to another host."""

    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        """Return no request to follow."""


class Endpoint:
    """Chat completions over HTTP."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        requests_per_minute: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Keep where to ask; nothing is sent yet.

        Args:
            url: up to and with the version, such as "http://localhost:8080/v1".
            model: as the endpoint calls it.
            key: sent as a bearer token; None sends none.
            requests_per_minute: at most so many, repeated ones counted.
            sleep: waits for seconds.

        Raises:
            TuningError: the URL is not one of HTTP.
        """
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise TuningError(f"{url} is no endpoint: give a URL such as http://localhost:8080/v1")
        self.model = model
        self._url = url.rstrip("/") + "/chat/completions"
        self._headers = {"Content-Type": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._interval_s = 60.0 / requests_per_minute
        self._sleep = sleep
        self._next_at = 0.0

    def complete(self, prompt: str, max_tokens: int, picture: Image.Image | None = None) -> str:
        """Ask for one reply.

        Args:
            prompt: the user's text.
            max_tokens: most tokens of the reply.
            picture: sent as a JPEG of at most 1024 pixels a side; None sends none.

        Raises:
            RowError: this content is refused, or has no usable reply after several tries.
            TuningError: the endpoint cannot be reached, or refuses whatever it is sent.
        """
        content: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
        if picture is not None:
            content.insert(0, {"type": "image_url", "image_url": {"url": _data_url(picture)}})
        body = msgspec.json.encode(
            {
                "model": self.model,
                "messages": [{"role": "user", "content": content if picture else prompt}],
                "max_tokens": max_tokens,
                "temperature": 0,
            }
        )
        wait_s = _FIRST_WAIT_S
        for tries in range(1, _TRIES + 1):
            self._pace()
            try:
                return self._post(body)
            except _PassingError as failure:
                if tries == _TRIES:
                    said = f"{self._url} failed {tries} times, at last with: {failure}"
                    if failure.of_the_row:
                        raise RowError(said) from failure
                    raise TuningError(f"{said}; run the command again to go on") from failure
                self._sleep(failure.wait_s or wait_s)
                wait_s *= 2
        raise AssertionError("unreachable")

    def _post(self, body: bytes) -> str:
        request = urllib.request.Request(self._url, body, self._headers)
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as reply:
                content = reply.read(_MAX_REPLY_BYTES)
        except urllib.error.HTTPError as err:
            with err:
                raise self._refusal(err) from err
        except (OSError, http.client.HTTPException) as err:
            raise _PassingError(str(err) or type(err).__name__) from err
        return _text_of(content)

    def _refusal(self, err: urllib.error.HTTPError) -> Exception:
        if err.code in _PASSING:
            wait_s = _seconds(err.headers.get("Retry-After", ""))
            # A picture can be what crashes a server; being asked too often is nobody's picture.
            return _PassingError(f"HTTP {err.code}", wait_s=wait_s, of_the_row=err.code != _BUSY)
        try:
            said = " ".join(err.read(300).decode("utf-8", "replace").split())
        except (OSError, http.client.HTTPException):
            said = err.reason
        if err.code in _ABOUT_THE_ROW:
            return RowError(f"{self._url} refused with HTTP {err.code}: {said}")
        return TuningError(
            f"{self._url} refused with HTTP {err.code}: {said}; check --endpoint, --model and "
            "the key in OPENAI_API_KEY"
        )

    def _pace(self) -> None:
        now = time.monotonic()
        if now < self._next_at:
            self._sleep(self._next_at - now)
        self._next_at = max(now, self._next_at) + self._interval_s


def _text_of(content: bytes) -> str:
    try:
        choice = msgspec.json.decode(content, type=_Completion).choices[0]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, IndexError) as err:
        raise _PassingError(f"a reply that is no chat completion: {err}", of_the_row=True) from err
    text = (choice.message.content or "").strip()
    if not text:
        raise _PassingError("an empty reply", of_the_row=True)
    if choice.finish_reason == "length":
        raise RowError("the model's reply was cut off at its limit of tokens")
    return text


def _seconds(retry_after: str) -> float:
    """Read a Retry-After header: seconds or a date; 0 if it says nothing usable."""
    try:
        wait_s = float(retry_after)
    except ValueError:
        try:
            due = parsedate_to_datetime(retry_after)
        except ValueError:
            return 0.0
        wait_s = (due.replace(tzinfo=due.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(wait_s, 0.0), _LONGEST_WAIT_S) if wait_s == wait_s else 0.0


def _data_url(picture: Image.Image) -> str:
    small = picture.copy()
    small.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    packed = io.BytesIO()
    small.save(packed, "JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode()
