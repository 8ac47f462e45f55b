"""A model behind an OpenAI-compatible endpoint: one request at a time, paced, tried again."""

from __future__ import annotations

import base64
import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any

from PIL import Image

from edge_et.errors import TuningError

_TIMEOUT_S = 120
_TRIES = 5
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0
_SENT_PIXELS = 1024
_MAX_ANSWER_BYTES = 1_000_000
_TRY_AGAIN = (408, 429, 500, 502, 503, 504)


class Endpoint:
    """Chat completions over HTTP.

    Args:
        url: Up to and with the version, such as "http://localhost:8080/v1".
        model: As the endpoint calls it.
        key: Sent as a bearer token; None sends none.
        requests_per_minute: At most so many.
        sleep: Waits for seconds.

    Raises:
        TuningError: The URL is not one of HTTP.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None,
        requests_per_minute: float,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise TuningError(f"{url} is no endpoint; it starts with http:// or https://")
        self.model = model
        self._url = url.rstrip("/") + "/chat/completions"
        self._key = key
        self._pause_s = 60 / requests_per_minute
        self._sleep = sleep
        self._next_at = 0.0

    def complete(self, prompt: str, picture: Image.Image | None) -> str:
        """Asks for one answer.

        Args:
            prompt: The user's text.
            picture: Sent as a JPEG of at most 1024 pixels a side; None sends none.

        Raises:
            TuningError: The endpoint cannot be reached, refuses, or answers what is no completion,
                also when asked again.
        """
        content: Any = prompt
        if picture is not None:
            image = {"type": "image_url", "image_url": {"url": _data_url(picture)}}
            content = [image, {"type": "text", "text": prompt}]
        body = json.dumps(
            {
                "model": self.model,
                "messages": [{"role": "user", "content": content}],
                "temperature": 0,
            }
        ).encode()
        wait = _FIRST_WAIT_S
        for last in (*[False] * (_TRIES - 1), True):
            self._pace()
            try:
                return self._post(body)
            except urllib.error.HTTPError as err:
                reason = f"HTTP {err.code}"
                if err.code not in _TRY_AGAIN:
                    told = err.read(300).decode("utf-8", "replace")
                    raise TuningError(f"{self._url} refused: {reason}: {told}") from err
                asked = err.headers.get("Retry-After", "")
                wait = max(wait, min(float(asked), _LONGEST_WAIT_S)) if asked.isdigit() else wait
            except (OSError, ValueError) as err:
                reason = str(err)
            if not last:
                self._sleep(wait)
                wait = min(wait * 2, _LONGEST_WAIT_S)
        raise TuningError(f"{self._url} gave no completion in {_TRIES} tries; the last: {reason}")

    def _post(self, body: bytes) -> str:
        headers = {"Content-Type": "application/json"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self._url, body, headers)
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            told = json.loads(answer.read(_MAX_ANSWER_BYTES))
        try:
            content = told["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError) as err:
            raise ValueError("the answer holds no choices[0].message.content") from err
        if not isinstance(content, str):
            raise ValueError("the answer's content is no text")
        return content

    def _pace(self) -> None:
        now = time.monotonic()
        if now < self._next_at:
            self._sleep(self._next_at - now)
        self._next_at = max(now, self._next_at) + self._pause_s


def _data_url(picture: Image.Image) -> str:
    small = picture.copy()
    small.thumbnail((_SENT_PIXELS, _SENT_PIXELS))
    packed = io.BytesIO()
    small.save(packed, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode()
