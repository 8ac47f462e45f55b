"""The Ollama protocol's requests for a chat or a text.

In: the body of ``POST /api/chat`` or ``/api/generate``. Out: a `ChatRequest`, and how the reply is
wanted. Fields and options that nobody knows are ignored, as clients send many.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_et.serve.bodies import (
    bad_request,
    flag_of,
    list_of,
    number_of,
    object_of,
    seed_of,
    stops_of,
    text_of,
    top_p_of,
    whole_number_of,
)
from edge_et.serve.chat_request import ChatRequest, Role, Turn
from edge_et.serve.errors import RequestError
from edge_et.serve.pictures import from_base64
from edge_et.serve.settings import ServeSettings

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "user",
}

_LEVELS = ("low", "medium", "high", "max")

_MOST_KEEP_ALIVE_S = 100 * 365 * 86_400.0
_UNITS_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", re.ASCII)
_MOST_DURATION_LETTERS = 40

_MARKER = "[img]"
"""Ollama puts the images of a message in the place of these; Frigate writes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaRequest:
    """A request for a chat or a text, or for a model to be loaded or unloaded.

    Attributes:
        model: name of a bundle; empty: the server's first one.
        chat: the conversation; None: it has no message, so that the model is only loaded, or with
            a `keep_alive_s` of 0 unloaded.
        keep_alive_s: as for `ChatRequest`.
        streams: whether the reply comes as it is written.
        ignored: what was asked for and is not done, as told in a header.
    """

    model: str
    chat: ChatRequest | None
    keep_alive_s: float | None
    streams: bool
    ignored: tuple[str, ...]


def read_chat(body: Mapping[str, Any], settings: ServeSettings) -> OllamaRequest:
    """Read the body of ``POST /api/chat``.

    Args:
        body: JSON object.
        settings: limits.

    Raises:
        RequestError: a field is wrong.
    """
    turns = [
        _turn_of(message, f"messages[{index}]")
        for index, message in enumerate(list_of(body, "messages"))
    ]
    return _request_of(body, turns, settings)


def read_generate(body: Mapping[str, Any], settings: ServeSettings) -> OllamaRequest:
    """Read the body of ``POST /api/generate``.

    Args:
        body: JSON object.
        settings: limits.

    Raises:
        RequestError: a field is wrong.
    """
    flag_of(body, "raw")
    list_of(body, "context")
    for name in ("template", "suffix"):
        text_of(body, name)
    prompt = "" if body.get("prompt") == [] else text_of(body, "prompt")
    pictures = _pictures_of(body, "images")
    turns = [_turn("user", prompt, pictures)] if prompt or pictures else []
    return _request_of(body, turns, settings)


def model_name_of(body: Mapping[str, Any]) -> str:
    """Return which model a body is about; older clients say ``name``.

    Raises:
        RequestError: it is no text.
    """
    return text_of(body, "model") or text_of(body, "name")


def _request_of(
    body: Mapping[str, Any], turns: list[Turn], settings: ServeSettings
) -> OllamaRequest:
    options = object_of(body, "options")
    model = model_name_of(body)
    system = text_of(body, "system")
    thinking = _thinking_of(body)
    keep_alive_s = _keep_alive_of(body)
    chat = ChatRequest(
        model=model,
        turns=(*([Turn(role="system", text=system)] if system else []), *turns),
        max_tokens=_max_tokens_of(options, settings),
        temperature=number_of(options, "temperature", 0, 10),
        top_p=top_p_of(options),
        seed=seed_of(options),
        stop=stops_of(options),
        schema=_schema_of(body),
        thinking=bool(thinking),
        shows_reasoning=thinking is not False,
        keep_alive_s=keep_alive_s,
    )
    return OllamaRequest(
        model=model,
        chat=chat if turns else None,
        keep_alive_s=keep_alive_s,
        streams=flag_of(body, "stream") is not False,
        ignored=_ignored_of(body),
    )


def _turn_of(message: Any, where: str) -> Turn:
    if not isinstance(message, dict):
        raise bad_request(f"{where} is no object")
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise bad_request(f"{where}.role is none of {', '.join(_ROLES)}")
    content = message.get("content")
    if content is not None and not isinstance(content, str):
        raise bad_request(f"{where}.content is no text")
    return _turn(_ROLES[role], content or "", _pictures_of(message, "images", f"{where}."))


def _turn(role: Role, text: str, pictures: tuple[bytes, ...]) -> Turn:
    if pictures:
        text = text.replace(f"{_MARKER}\n", "").replace(_MARKER, "").strip()
    return Turn(role=role, text=text, pictures=pictures)


def _pictures_of(body: Mapping[str, Any], name: str, where: str = "") -> tuple[bytes, ...]:
    images = body.get(name)
    if images is not None and not isinstance(images, list):
        raise bad_request(f"{where}{name} is no list")
    pictures = []
    for index, image in enumerate(images or ()):
        try:
            pictures.append(from_base64(image))
        except RequestError as err:
            raise bad_request(f"{where}{name}[{index}]: {err.message}", err.code) from err
    return tuple(pictures)


def _max_tokens_of(options: Mapping[str, Any], settings: ServeSettings) -> int | None:
    """Return the budget; all that is not above 0 means none, so that the server's cap holds."""
    limit = whole_number_of(options, "num_predict", -(2**63))
    return settings.max_tokens if limit is not None and limit <= 0 else limit


def _schema_of(body: Mapping[str, Any]) -> dict[str, Any] | None:
    wanted = body.get("format")
    if wanted is None or wanted == "":
        return None
    if wanted == "json":
        return {"type": "object"}
    if isinstance(wanted, dict):
        return wanted
    raise bad_request('format is neither "json" nor a JSON schema')


def _thinking_of(body: Mapping[str, Any]) -> bool | None:
    """Return whether a client wants thoughts; None: it does not say."""
    told = body.get("think")
    if told is None or told == "" or isinstance(told, bool):
        return told if isinstance(told, bool) else None
    if told in _LEVELS:
        return True
    raise bad_request(f"think is none of true, false, {', '.join(_LEVELS)}")


def _keep_alive_of(body: Mapping[str, Any]) -> float | None:
    """Return seconds; below 0: for ever. A text is a duration as Go has it, or seconds."""
    told = body.get("keep_alive")
    if not isinstance(told, str):
        seconds = number_of(body, "keep_alive")
    else:
        seconds = _seconds_of(told.strip()) if told.strip() else None
    if seconds is None:
        return None
    return -1.0 if seconds < 0 else float(min(seconds, _MOST_KEEP_ALIVE_S))


def _seconds_of(duration: str) -> float:
    sign = -1.0 if duration.startswith("-") else 1.0
    amount = duration.removeprefix("-").removeprefix("+")
    if len(amount) <= _MOST_DURATION_LETTERS:
        if re.fullmatch(r"\d+(\.\d+)?", amount, re.ASCII):
            return sign * float(amount)
        parts = _DURATION.findall(amount)
        if parts and "".join(number + unit for number, unit in parts) == amount:
            return sign * sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    raise bad_request('keep_alive is no duration: expected seconds, or a text such as "5m"')


def _ignored_of(body: Mapping[str, Any]) -> tuple[str, ...]:
    list_of(body, "tools")
    return tuple(name for name in _IGNORED if body.get(name))


_IGNORED = ("tools", "logprobs", "raw", "template", "suffix", "context")
"""Fields that change what a client gets from Ollama, and not what it gets here."""
