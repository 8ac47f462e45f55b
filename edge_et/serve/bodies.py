"""Bodies of requests: JSON objects, whose fields are read by name and type.

In: what a client sent. Out: values of the expected types, or a `RequestError` that names the field.
Fields that nobody asks for are not looked at.
"""

import asyncio
import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request

from edge_et.serve.errors import RequestError

_IDLE_S = 30.0
"""So long may a client send nothing of its body."""

_MOST_VALUES = 500_000


async def read_json(http: Request, max_bytes: int, idle_s: float = _IDLE_S) -> dict[str, Any]:
    """Return the body of a request.

    Args:
        http: the request.
        max_bytes: most of its body; one that says that it is longer is not read.
        idle_s: seconds without a byte after which it is given up.

    Raises:
        RequestError: it is no JSON object, or too long, or does not come to its end.
    """
    try:
        data = await _read(http, max_bytes, idle_s)
    except TimeoutError as err:
        message = f"the body stopped before its end: nothing came for {idle_s:g} seconds"
        raise RequestError(408, "request_timeout", message, {"Connection": "close"}) from err
    except ClientDisconnect as err:
        raise bad_request("the client hung up before the end of the body") from err
    # Each takes a hundred bytes of memory and more; a picture is one.
    if sum(map(data.count, b",[{:")) > _MOST_VALUES:
        raise bad_request(f"the body has more than {_MOST_VALUES} values or marks between them")
    try:
        body = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as err:
        raise bad_request(f"the body is no JSON: {err}") from err
    if not isinstance(body, dict):
        raise bad_request("the body is no JSON object")
    return body


async def _read(http: Request, max_bytes: int, idle_s: float) -> bytearray:
    told = http.headers.get("content-length", "")
    size = int(told) if told.isdecimal() else 0
    data = bytearray()
    if size <= max_bytes:
        async with asyncio.timeout(idle_s) as limit:
            async for chunk in http.stream():
                size = len(data) + len(chunk)
                if size > max_bytes:
                    break
                data += chunk
                limit.reschedule(asyncio.get_running_loop().time() + idle_s)
    if size > max_bytes:
        message = (
            f"the body is larger than {max_bytes} bytes: send fewer or smaller pictures, or start "
            "the server with a larger --max-body-bytes"
        )
        raise RequestError(413, "request_too_large", message)
    return data


def bad_request(message: str, code: str = "invalid_request") -> RequestError:
    """Return the error of a body that cannot be answered."""
    return RequestError(400, code, message)


def text_of(body: Mapping[str, Any], name: str, default: str = "") -> str:
    """Return a text; null is as good as nothing.

    Raises:
        RequestError: it is no text.
    """
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, str):
        raise bad_request(f"{name} is no text")
    return value


def number_of(
    body: Mapping[str, Any], name: str, least: float = -math.inf, most: float = math.inf
) -> float | None:
    """Return a number, or None where there is none.

    Args:
        body: an object.
        name: of the field.
        least: the smallest that is accepted.
        most: the largest.

    Raises:
        RequestError: it is no number, or out of the range.
    """
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise bad_request(f"{name} is no number")
    # A whole number may be larger than any float.
    if not least <= value <= most or value in (math.inf, -math.inf):
        raise bad_request(f"{name} is out of its range: expected {least:g} to {most:g}")
    return value


def whole_number_of(
    body: Mapping[str, Any], name: str, least: int, most: int = 2**63 - 1
) -> int | None:
    """Return a whole number, or None where there is none; see `number_of`."""
    value = number_of(body, name, least, most)
    if value is not None and value != int(value):
        raise bad_request(f"{name} is no whole number")
    return None if value is None else int(value)


def flag_of(body: Mapping[str, Any], name: str) -> bool | None:
    """Return a yes or no, or None where there is none.

    Raises:
        RequestError: it is neither.
    """
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise bad_request(f"{name} is neither true nor false")
    return value


def object_of(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return an object; null is as good as an empty one.

    Raises:
        RequestError: it is none.
    """
    value = body.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad_request(f"{name} is no object")
    return value


def list_of(body: Mapping[str, Any], name: str) -> list[Any]:
    """Return a list; null is as good as an empty one.

    Raises:
        RequestError: it is none.
    """
    value = body.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise bad_request(f"{name} is no list")
    return value


def top_p_of(body: Mapping[str, Any]) -> float | None:
    """Return ``top_p``; 0 is what some clients send for the default."""
    return number_of(body, "top_p", 0, 1) or None


def seed_of(body: Mapping[str, Any]) -> int | None:
    """Return ``seed``; one below 0 is none."""
    seed = whole_number_of(body, "seed", -(2**63))
    return None if seed is None or seed < 0 else seed


def stops_of(body: Mapping[str, Any], name: str = "stop") -> tuple[str, ...]:
    """Return the texts before which an answer ends: one, or a list of up to 16.

    Raises:
        RequestError: they are something else.
    """
    value = body.get(name)
    stops = [value] if isinstance(value, str) else list_of(body, name)
    if not all(isinstance(stop, str) for stop in stops) or len(stops) > 16:
        raise bad_request(f"{name} is neither a text nor a list of up to 16 texts")
    return tuple(stop for stop in stops if stop)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")
