import base64
from typing import Any

import pytest

from edge_et.serve.chat_request import ChatRequest, Turn
from edge_et.serve.errors import RequestError
from edge_et.serve.page_request import read_question
from edge_et.serve.settings import ServeSettings

PICTURE = "data:image/png;base64," + base64.b64encode(b"picture").decode()


def read(**fields: Any) -> ChatRequest:
    return read_question({"question": "What is this?", **fields}, ServeSettings(max_images=2))


def test_a_question_about_pictures() -> None:
    chat = read(pictures=[PICTURE, base64.b64encode(b"bare").decode()], model="mini")
    assert chat.turns == (Turn(role="user", text="What is this?", pictures=(b"picture", b"bare")),)
    assert chat.model == "mini"
    assert chat.extraction is None
    assert chat.thinking is None  # as the bundle has it


@pytest.mark.parametrize("extraction", ["", "A cat."])
def test_a_question_about_an_extraction(extraction: str) -> None:
    chat = read(extraction=extraction, pictures=[])
    assert (chat.extraction, chat.turns[0].pictures) == (extraction, ())


def test_forms_of_the_answer() -> None:
    chat = read(choices=["cat", "dog"])
    assert (chat.choices, chat.kind, chat.schema) == (("cat", "dog"), None, None)
    assert read(kind="number").kind == "number"
    assert chat.confidence == "written"
    assert read(schema={"type": "object"}).schema == {"type": "object"}
    nothing = read(choices=[], kind="", schema=None, model=None, extraction=None)
    assert (nothing.choices, nothing.kind, nothing.schema) == (None, None, None)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"question": ""}, "question is empty"),
        ({"question": " \n"}, "question is empty"),
        ({"question": None}, "question is empty"),
        ({"question": 7}, "question is no text"),
        ({"pictures": PICTURE}, "pictures is no list"),
        ({"pictures": [7]}, "no text of base64"),
        ({"pictures": ["data:text/html,x"]}, "no image"),
        ({"pictures": ["http://localhost/a.png"]}, "no base64"),
        ({"pictures": [PICTURE] * 3}, "more than 2 pictures"),
        ({"pictures": [PICTURE], "extraction": ""}, "the one or the other"),
        ({"extraction": ["A cat."]}, "extraction is no text"),
        ({"choices": "cat"}, "choices is no list"),
        ({"choices": ["cat", 7]}, "choices is no list of texts"),
        ({"kind": "colour"}, "kind is none of yes/no, number"),
        ({"kind": 7}, "kind is no text"),
        ({"schema": ["object"]}, "schema is no object"),
        ({"model": 7}, "model is no text"),
        ({"pictuers": []}, "'pictuers' is none of the fields"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(RequestError, match=told) as caught:
        read(**fields)
    assert caught.value.status == 400
