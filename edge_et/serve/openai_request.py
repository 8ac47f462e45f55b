"""The OpenAI protocol's request for a chat completion.

In: the body of ``POST /v1/chat/completions``. Out: a `ChatRequest`, and how the reply is wanted.
Fields that nobody knows are ignored, as clients send many.
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
from edge_et.serve.pictures import from_base64, from_url
from edge_et.serve.settings import ServeSettings

_ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "user",
    "function": "user",
}

_PICTURES = ("image", "image_url", "input_image")

_NO_THINKING = ("none", "minimal")

_ANY_OBJECT = {"type": "object"}

# Home Assistant's llama.cpp integration sends a PDF so; in base64 each begins with JVBERi0.
_PDF_AS_TEXT = re.compile(r"\[File: [^\n]*\]\nContent: JVBERi0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A request for a completion.

    Attributes:
        chat: the conversation.
        streams: whether the reply comes as it is written.
        includes_usage: whether a stream ends with what it took.
        ignored: what was asked for and is not done, as told in a header.
    """

    chat: ChatRequest
    streams: bool
    includes_usage: bool
    ignored: tuple[str, ...]


async def read_completion(body: Mapping[str, Any], settings: ServeSettings) -> Completion:
    """Read a body.

    Args:
        body: JSON object.
        settings: limits, and where pictures may be fetched from.

    Raises:
        RequestError: a field is wrong, or asks for what cannot be done.
    """
    messages = list_of(body, "messages")
    if not messages:
        raise bad_request("messages is empty or missing")
    if (whole_number_of(body, "n", 1) or 1) > 1:
        raise bad_request("n is more than 1: ask once for each completion")
    thinking = _thinking_of(body)
    chat = ChatRequest(
        model=text_of(body, "model"),
        turns=await _turns_of(messages, settings),
        max_tokens=_max_tokens_of(body),
        temperature=number_of(body, "temperature", 0, 10),
        top_p=top_p_of(body),
        seed=seed_of(body),
        stop=stops_of(body),
        schema=_schema_of(body),
        thinking=bool(thinking),
        shows_reasoning=thinking is not False,
        top_logprobs=_top_logprobs_of(body),
    )
    return Completion(
        chat=chat,
        streams=bool(flag_of(body, "stream")),
        includes_usage=bool(flag_of(object_of(body, "stream_options"), "include_usage")),
        ignored=_ignored_of(body),
    )


def _max_tokens_of(body: Mapping[str, Any]) -> int | None:
    """Return the budget; 0 and -1 mean none in some clients."""
    limits = [whole_number_of(body, name, -1) for name in ("max_completion_tokens", "max_tokens")]
    return next((limit for limit in limits if limit is not None and limit > 0), None)


def _top_logprobs_of(body: Mapping[str, Any]) -> int | None:
    count = whole_number_of(body, "top_logprobs", 0, 20)
    return (count or 0) if flag_of(body, "logprobs") else None


def _thinking_of(body: Mapping[str, Any]) -> bool | None:
    """Return whether a client wants thoughts; None: it does not say."""
    told = flag_of(object_of(body, "chat_template_kwargs"), "enable_thinking")
    if told is not None:
        return told
    effort = text_of(body, "reasoning_effort")
    return effort not in _NO_THINKING if effort else None


def _schema_of(body: Mapping[str, Any]) -> Any:
    wanted = object_of(body, "response_format")
    kind = text_of(wanted, "type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return object_of(wanted, "schema") or _ANY_OBJECT
    if kind == "json_schema":
        return object_of(object_of(wanted, "json_schema"), "schema") or _ANY_OBJECT
    raise bad_request("response_format.type is none of text, json_object, json_schema")


def _ignored_of(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what is ignored.

    Raises:
        RequestError: it must not be ignored.
    """
    if not (list_of(body, "tools") or list_of(body, "functions")):
        return ()
    choice = body.get("tool_choice", body.get("function_call"))
    if choice == "none":
        return ()
    if choice not in (None, "auto"):
        raise bad_request(
            "tool_choice demands a tool: this server calls none", "unsupported_tool_choice"
        )
    return ("tools",)


async def _turns_of(messages: list[Any], settings: ServeSettings) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    left = settings.max_images
    for index, message in enumerate(messages):
        turns.append(await _turn_of(message, f"messages[{index}]", settings, left))
        left -= len(turns[-1].pictures)
    return tuple(turns)


async def _turn_of(message: Any, where: str, settings: ServeSettings, most_pictures: int) -> Turn:
    if not isinstance(message, dict):
        raise bad_request(f"{where} is no object")
    role = _ROLES.get(text_of(message, "role"))
    if role is None:
        raise bad_request(f"{where}.role is none of {', '.join(_ROLES)}")
    content = message.get("content")
    if content is None or isinstance(content, str):
        return Turn(role=role, text=content or "")
    if not isinstance(content, list):
        raise bad_request(f"{where}.content is neither a text nor a list")
    texts: list[str] = []
    pictures: list[bytes] = []
    for number, part in enumerate(content):
        place = f"{where}.content[{number}]"
        if isinstance(part, str):
            texts.append(part)
            continue
        if not isinstance(part, dict):
            raise bad_request(f"{place} is no object")
        kind = text_of(part, "type", "text")
        if kind in ("text", "input_text", "output_text", "refusal"):
            text = text_of(part, "text") or text_of(part, "refusal")
            if _PDF_AS_TEXT.match(text):
                raise bad_request(f"{place} is a PDF: send its pages as images", "invalid_image")
            texts.append(text)
        elif kind in _PICTURES and len(pictures) == most_pictures:
            # Told here, before more of them are fetched.
            raise bad_request(
                f"there are more than {settings.max_images} pictures: send fewer, or start the "
                "server with a larger --max-images",
                "invalid_image",
            )
        elif kind == "image":
            pictures.append(from_base64(part.get("image") or part.get("data")))
        elif kind in _PICTURES:
            pictures.append(await _picture_of(part, settings))
        else:
            raise bad_request(f"{place}.type: this server reads texts and images alone")
    return Turn(role=role, text="\n".join(filter(None, texts)), pictures=tuple(pictures))


async def _picture_of(part: Mapping[str, Any], settings: ServeSettings) -> bytes:
    """Return the picture of a part, whose URL stands in an object or, in some clients, alone."""
    found = part.get("image_url")
    return await from_url(found.get("url") if isinstance(found, dict) else found, settings)
