"""What the page asks: a question about pictures, or about an extraction that was edited.

In: the body of ``POST /edge-et/ask``. Out: a `ChatRequest`. The page is ours, so that a field that
nobody knows is a mistake.
"""

from collections.abc import Mapping
from typing import Any, cast, get_args

from edge_et.options import AnswerKind
from edge_et.serve.bodies import bad_request, list_of, object_of, text_of
from edge_et.serve.chat_request import ChatRequest, Turn
from edge_et.serve.pictures import from_base64
from edge_et.serve.settings import ServeSettings

_FIELDS = ("question", "pictures", "extraction", "model", "choices", "kind", "schema")


def read_question(body: Mapping[str, Any], settings: ServeSettings) -> ChatRequest:
    """Read a body.

    Args:
        body: JSON object.
        settings: limits.

    Raises:
        RequestError: a field is wrong or unknown.
    """
    for name in body:
        if name not in _FIELDS:
            raise bad_request(f"{name[:60]!r} is none of the fields {', '.join(_FIELDS)}")
    question = text_of(body, "question")
    if not question.strip():
        raise bad_request("question is empty or missing")
    pictures = list_of(body, "pictures")
    if len(pictures) > settings.max_images:
        raise bad_request(
            f"there are more than {settings.max_images} pictures: send fewer, or start the server "
            "with a larger --max-images",
            "invalid_image",
        )
    has_extraction = body.get("extraction") is not None
    if has_extraction and pictures:
        raise bad_request("there are pictures and an extraction: send the one or the other")
    turn = Turn(role="user", text=question, pictures=tuple(map(from_base64, pictures)))
    return ChatRequest(
        model=text_of(body, "model"),
        turns=(turn,),
        schema=object_of(body, "schema") if body.get("schema") is not None else None,
        choices=_choices_of(body),
        kind=_kind_of(body),
        extraction=text_of(body, "extraction") if has_extraction else None,
        confidence="written",
        thinking=None,
    )


def _choices_of(body: Mapping[str, Any]) -> tuple[str, ...] | None:
    choices = list_of(body, "choices")
    if not all(isinstance(choice, str) for choice in choices):
        raise bad_request("choices is no list of texts")
    return tuple(choices) or None


def _kind_of(body: Mapping[str, Any]) -> AnswerKind | None:
    kind = text_of(body, "kind")
    if not kind:
        return None
    if kind not in get_args(AnswerKind):
        raise bad_request(f"kind is none of {', '.join(get_args(AnswerKind))}")
    return cast(AnswerKind, kind)
