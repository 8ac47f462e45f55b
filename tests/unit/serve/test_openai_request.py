import asyncio
import base64
from typing import Any

import pytest

from edge_et.serve import pictures
from edge_et.serve.chat_request import Turn
from edge_et.serve.errors import RequestError
from edge_et.serve.openai_request import Completion, read_completion
from edge_et.serve.settings import ServeSettings

ASKED = {"role": "user", "content": "What is this?"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def read(body: dict[str, Any]) -> Completion:
    return asyncio.run(read_completion({"messages": [ASKED], **body}, ServeSettings()))


def test_parts_in_any_order_become_one_turn() -> None:
    parts = ["bare", PICTURE, {"type": "text", "text": "between"}, PICTURE, {"text": "last"}]
    (turn,) = read({"messages": [{"role": "user", "content": parts}]}).chat.turns
    assert turn == Turn(role="user", text="bare\nbetween\nlast", pictures=(b"\0\0\0",) * 2)


def test_roles_of_other_protocols_are_understood() -> None:
    roles = ("developer", "system", "user", "assistant", "tool")
    messages = [{"role": role, "content": role} for role in roles]
    told = [turn.role for turn in read({"messages": messages}).chat.turns]
    assert told == ["system", "system", "user", "assistant", "user"]


def test_a_message_without_content_is_empty() -> None:
    calls = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    assert read({"messages": [calls, ASKED]}).chat.turns[0].text == ""


@pytest.mark.parametrize(
    ("fields", "budget"),
    [
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 9}, 9),
        ({"max_tokens": 7, "max_completion_tokens": 9}, 9),
        ({"max_tokens": -1}, None),
        ({"max_tokens": None}, None),
        ({}, None),
    ],
)
def test_both_names_of_the_budget(fields: dict[str, Any], budget: int | None) -> None:
    assert read(fields).chat.max_tokens == budget


@pytest.mark.parametrize(
    ("fields", "thinks", "shows"),
    [
        ({}, False, True),
        ({"chat_template_kwargs": {"enable_thinking": True}}, True, True),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False, False),
        ({"reasoning_effort": "low"}, True, True),
        ({"reasoning_effort": "none"}, False, False),
    ],
)
def test_thinking(fields: dict[str, Any], thinks: bool, shows: bool) -> None:
    chat = read(fields).chat
    assert (chat.thinking, chat.shows_reasoning) == (thinks, shows)


def test_formats() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    strict = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    assert read({"response_format": strict}).chat.schema == schema
    assert read({"response_format": {"type": "json_object"}}).chat.schema == {"type": "object"}
    assert read({"response_format": {"type": "text"}}).chat.schema is None


def test_tools_are_ignored_and_told_unless_one_is_demanded() -> None:
    tools = [{"type": "function", "function": {"name": "turn_on"}}]
    assert read({"tools": tools}).ignored == ("tools",)
    assert read({"tools": tools, "tool_choice": "auto"}).ignored == ("tools",)
    assert read({"tools": tools, "tool_choice": "none"}).ignored == ()
    for choice in ("required", {"type": "function", "function": {"name": "turn_on"}}):
        with pytest.raises(RequestError) as raised:
            read({"tools": tools, "tool_choice": choice})
        assert (raised.value.status, raised.value.code) == (400, "unsupported_tool_choice")


def test_fields_that_nobody_knows_are_ignored() -> None:
    fields = {"user": "me", "timings_per_token": True, "frequency_penalty": 0.5, "detail": []}
    assert read(fields).chat == read({}).chat


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": []},
        {"messages": "Hi"},
        {"messages": ["Hi"]},
        {"messages": [{"role": "robot", "content": "Hi"}]},
        {"messages": [{"role": "user", "content": 7}]},
        {"messages": [{"role": "user", "content": [7]}]},
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        {"temperature": "warm"},
        {"temperature": -1},
        {"temperature": True},
        {"top_p": 2},
        {"seed": 10**400},
        {"temperature": 10**400},
        {"max_tokens": 1.5},
        {"stop": 7},
        {"stop": ["a"] * 17},
        {"stream": "yes"},
        {"logprobs": True, "top_logprobs": 21},
        {"response_format": {"type": "xml"}},
        {"response_format": "json"},
        {"n": 2},
        {"model": 7},
    ],
)
def test_what_is_wrong_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as raised:
        read(fields)
    assert raised.value.status == 400


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,",
        "data:image/png;base64,#",
        "data:text/html;base64,AAAA",
        "data:image/png",
        "data:image/png,\ud800",
        "file:///etc/hostname",
        "/etc/hostname",
        "http://example.com/a.png",
        "https://localhost/a.png",
        "",
        7,
        None,
    ],
)
def test_a_picture_that_cannot_be_had_is_refused(url: object) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    with pytest.raises(RequestError) as raised:
        read({"messages": [{"role": "user", "content": [part]}]})
    assert (raised.value.status, raised.value.code) == (400, "invalid_image")


def test_no_more_pictures_are_fetched_than_a_request_may_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetched: list[str] = []

    async def fetch(url: str, settings: ServeSettings) -> bytes:
        fetched.append(url)
        return b"picture"

    monkeypatch.setattr(pictures, "fetch_picture", fetch)
    urls = [f"http://pictures.example/{number}.png" for number in range(4)]
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    messages = [{"role": "user", "content": parts[:1]}, {"role": "user", "content": parts[1:]}]
    settings = ServeSettings(max_images=2)
    with pytest.raises(RequestError, match="more than 2 pictures") as raised:
        asyncio.run(read_completion({"messages": messages}, settings))
    assert (raised.value.status, raised.value.code) == (400, "invalid_image")
    assert fetched == urls[:2]


def test_data_urls_in_the_forms_that_clients_send() -> None:
    data = base64.b64encode(b"picture?>").decode()
    for url in (
        f"data:image/jpeg;base64,{data}",
        f"data:image/jpeg;charset=utf-8;base64,{data}",
        f"DATA:image/jpeg;BASE64,{data}".replace("DATA", "data"),
        f"data:;base64,{data}",
        f"data:image/jpeg;base64,{data.rstrip('=')}",
        f"data:image/jpeg;base64,{data[:5]}\r\n{data[5:]}",
        "data:image/jpeg,picture%3F%3E",
    ):
        part = {"type": "image_url", "image_url": url}
        (turn,) = read({"messages": [{"role": "user", "content": [part]}]}).chat.turns
        assert turn.pictures == (b"picture?>",), url


def test_a_text_about_a_pdf_is_a_text() -> None:
    text = "[File: bill.pdf]\nContent: is what the letter begins with"
    (turn,) = read({"messages": [{"role": "user", "content": [{"text": text}]}]}).chat.turns
    assert turn.text == text
