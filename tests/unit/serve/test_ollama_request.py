import base64
import time
from typing import Any

import pytest

from edge_et.serve.chat_request import ChatRequest, Turn
from edge_et.serve.errors import RequestError
from edge_et.serve.ollama_request import OllamaRequest, read_chat, read_generate
from edge_et.serve.settings import ServeSettings

ASKED = {"role": "user", "content": "What is this?"}
PNG, OTHER = b"\x89PNG", b"GIF8"
IMAGE, OTHER_IMAGE = (base64.b64encode(data).decode() for data in (PNG, OTHER))


def read(body: dict[str, Any]) -> OllamaRequest:
    return read_chat({"messages": [ASKED], **body}, ServeSettings())


def chat(body: dict[str, Any]) -> ChatRequest:
    found = read(body).chat
    assert found is not None
    return found


def generate(body: dict[str, Any]) -> ChatRequest | None:
    return read_generate(body, ServeSettings()).chat


def test_messages_become_turns_in_their_order() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Look.", "images": [IMAGE, OTHER_IMAGE]},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "see"}}]},
        {"role": "tool", "content": "{}", "tool_name": "see"},
        {"role": "user", "content": "And?", "images": None},
    ]
    assert chat({"messages": messages, "system": "You look."}).turns == (
        Turn(role="system", text="You look."),
        Turn(role="system", text="Be brief."),
        Turn(role="user", text="Look.", pictures=(PNG, OTHER)),
        Turn(role="assistant", text=""),
        Turn(role="user", text="{}"),
        Turn(role="user", text="And?"),
    )


def test_a_prompt_is_a_question_behind_its_instructions() -> None:
    found = generate({"prompt": "What?", "system": "Be brief.", "images": [IMAGE, OTHER_IMAGE]})
    assert found is not None
    assert found.turns == (
        Turn(role="system", text="Be brief."),
        Turn(role="user", text="What?", pictures=(PNG, OTHER)),
    )


def test_an_image_without_a_word_is_answered() -> None:
    found = generate({"prompt": "", "images": [IMAGE]})
    assert found is not None
    assert found.turns == (Turn(role="user", text="", pictures=(PNG,)),)


@pytest.mark.parametrize("body", [{}, {"prompt": []}, {"prompt": None}, {"system": "Be brief."}])
def test_nothing_asked_means_loading(body: dict[str, Any]) -> None:
    assert generate(body) is None
    assert read({**body, "messages": []}).chat is None


def test_markers_of_images_are_no_text() -> None:
    text = "What happened?\nat noon\n[img]\nat one\n[img]"
    message = {"role": "user", "content": text, "images": [IMAGE, OTHER_IMAGE]}
    (turn,) = chat({"messages": [message]}).turns
    assert turn.text == "What happened?\nat noon\nat one"
    (turn,) = chat({"messages": [{"role": "user", "content": "Is [img] a tag?"}]}).turns
    assert turn.text == "Is [img] a tag?"


def test_options_that_are_known() -> None:
    options = {
        "num_predict": 300.0,
        "temperature": 0.2,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["\n", "END"],
        "num_ctx": 131072,
        "repeat_penalty": 1.05,
        "mirostat": "of a later version",
    }
    found = chat({"options": options, "keep_alive": "5m"})
    assert (found.max_tokens, found.temperature, found.top_p, found.seed, found.stop) == (
        300,
        0.2,
        0.9,
        7,
        ("\n", "END"),
    )
    assert chat({"options": {"stop": "END"}}).stop == ("END",)
    assert chat({"options": {"seed": -1}}).seed is None


@pytest.mark.parametrize("limit", [-1, -2, 0])
def test_no_limit_is_that_of_the_server(limit: int) -> None:
    assert chat({"options": {"num_predict": limit}}).max_tokens == ServeSettings().max_tokens


def test_what_is_null_is_as_if_it_were_missing() -> None:
    names = ("stream", "think", "format", "keep_alive", "options", "tools", "system", "model")
    assert read(dict.fromkeys(names)) == read({})
    options = ("num_predict", "temperature", "top_p", "seed", "stop")
    assert read({"options": dict.fromkeys(options)}) == read({})


@pytest.mark.parametrize(
    ("told", "thinks", "shows"),
    [
        (None, False, True),
        (True, True, True),
        ("low", True, True),
        (False, False, False),
        ("", False, True),
    ],
)
def test_thinking(told: Any, thinks: bool, shows: bool) -> None:
    found = chat({"think": told})
    assert (found.thinking, found.shows_reasoning) == (thinks, shows)


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        (0, 0),
        (30, 30),
        (2.5, 2.5),
        (-1, -1),
        ("-1", -1),
        ("-1s", -1),
        ("-5m", -1),
        ("0", 0),
        ("0s", 0),
        ("300", 300),
        ("5m", 300),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("500ms", 0.5),
        ("1e3", None),
        ("5 m", None),
        ("m", None),
        ("5x", None),
        ("5m5", None),
        ("٣s", None),
        (True, None),
        ([5], None),
    ],
)
def test_how_long_a_model_stays(told: Any, seconds: float | None) -> None:
    if seconds is None:
        with pytest.raises(RequestError, match="keep_alive"):
            read({"keep_alive": told})
        return
    assert read({"keep_alive": told}).keep_alive_s == seconds
    assert chat({"keep_alive": told}).keep_alive_s == seconds


def test_for_ages_is_a_time_that_a_clock_has() -> None:
    for told in (1e300, 10**400, "9" * 39 + "h"):
        stays = read({"keep_alive": told}).keep_alive_s
        assert stays is not None
        assert time.time() + stays < 1e10


def test_formats() -> None:
    schema = {"type": "object", "properties": {"count": {"type": "integer"}}}
    assert chat({"format": schema}).schema == schema
    assert chat({"format": "json"}).schema == {"type": "object"}
    assert chat({"format": ""}).schema is None


def test_what_is_not_done_is_told() -> None:
    assert read({"tools": [{"type": "function"}], "logprobs": True}).ignored == (
        "tools",
        "logprobs",
    )
    assert read({"tools": [], "logprobs": False}).ignored == ()
    found = read_generate(
        {"prompt": "a", "suffix": "b", "context": [1], "raw": True}, ServeSettings()
    )
    assert found.ignored == ("raw", "suffix", "context")


def test_replies_come_as_they_are_written_unless_told_otherwise() -> None:
    assert read({}).streams
    assert not read({"stream": False}).streams


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"messages": "What?"}, "messages"),
    ({"messages": ["What?"]}, r"messages\[0\]"),
    ({"messages": [ASKED, {"role": "robot", "content": "a"}]}, r"messages\[1\].role"),
    ({"messages": [{"role": ["user"], "content": "a"}]}, r"messages\[0\].role"),
    ({"messages": [{"content": "a"}]}, r"messages\[0\].role"),
    ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, r"messages\[0\].content"),
    ({"messages": [{**ASKED, "images": IMAGE}]}, r"messages\[0\].images"),
    ({"messages": [{**ASKED, "images": [IMAGE, "no base64!"]}]}, r"messages\[0\].images\[1\]"),
    ({"messages": [{**ASKED, "images": [{"data": IMAGE}]}]}, r"messages\[0\].images\[0\]"),
    ({"messages": [{**ASKED, "images": [""]}]}, r"messages\[0\].images\[0\]"),
    ({"model": 1}, "model"),
    ({"system": ["a"]}, "system"),
    ({"stream": "no"}, "stream"),
    ({"format": "yaml"}, "format"),
    ({"format": ["json"]}, "format"),
    ({"think": "hard"}, "think"),
    ({"think": 1}, "think"),
    ({"think": ["low"]}, "think"),
    ({"tools": {}}, "tools"),
    ({"options": []}, "options"),
    ({"options": {"num_predict": "10"}}, "num_predict"),
    ({"options": {"num_predict": 1.5}}, "num_predict"),
    ({"options": {"temperature": "hot"}}, "temperature"),
    ({"options": {"top_p": 2}}, "top_p"),
    ({"options": {"seed": "a"}}, "seed"),
    ({"options": {"stop": [1]}}, "stop"),
]


@pytest.mark.parametrize(("body", "field"), WRONG)
def test_wrong_types_are_told_by_their_field(body: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError, match=field) as caught:
        read(body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"prompt": ["What?"]}, "prompt"),
        ({"prompt": "a", "images": IMAGE}, "images"),
        ({"prompt": "a", "images": ["?"]}, r"images\[0\]"),
        ({"prompt": "a", "context": "b"}, "context"),
        ({"prompt": "a", "raw": "yes"}, "raw"),
        ({"prompt": "a", "template": {}}, "template"),
        ({"prompt": "a", "suffix": 1}, "suffix"),
    ],
)
def test_wrong_types_beside_a_prompt(body: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError, match=field) as caught:
        generate(body)
    assert caught.value.status == 400


def test_a_data_url_in_a_data_url_is_no_base64() -> None:
    with pytest.raises(RequestError, match="no base64"):
        chat({"messages": [{"role": "user", "images": ["data:;base64,data:;base64,QUJD"]}]})
