"""A row's answer, or its error, as plain values."""

import json
from typing import Any

import pytest

from edge_et.batch import RowAnswerer
from edge_et.batch.answering import FIELDS
from edge_et.errors import ImageDecodeError, OptionError
from edge_et.results import Answer


class FakeSession:
    def __init__(self, image: str) -> None:
        self.image = image

    def answer(self, question: str, **options: Any) -> Answer:
        if not question:
            raise OptionError("question", question, "a text that is not empty")
        if question == "fault":
            raise ZeroDivisionError("by us")
        text = f"{self.image}: {question} {options['seed']}"
        reasons = {"extract": "stop", "answer": "length"}
        return Answer(
            text=text,
            extraction="seen",
            reasoning="so",
            usage={},
            finish_reasons=reasons,  # type: ignore[arg-type]
            value=7,
        )


class FakePipe:
    """Tells which pictures were encoded, and how."""

    def __init__(self) -> None:
        self.encoded: list[tuple[str, object]] = []

    def session(self, image: str, *, max_tiles: int | None, pooling: int | None) -> FakeSession:
        self.encoded.append((image, max_tiles))
        if image == "bad":
            raise ImageDecodeError("damaged")
        return FakeSession(image)


@pytest.fixture
def pipe() -> FakePipe:
    return FakePipe()


@pytest.fixture
def answerer(pipe: FakePipe) -> RowAnswerer:
    return RowAnswerer(pipe, {"seed": 3, "max_tiles": 2})  # type: ignore[arg-type]


def test_equal_pictures_in_a_row_are_encoded_once(pipe: FakePipe, answerer: RowAnswerer) -> None:
    asked = [("a", "Who?", "1"), ("b", "What?", "1"), ("c", "What?", "2"), ("d", "", "2")]
    rows = [answerer.answer(*each) for each in asked]
    assert pipe.encoded == [("a", 2), ("c", 2)]
    assert [row["text"] for row in rows] == ["a: Who? 3", "a: What? 3", "c: What? 3", None]
    for row in rows:
        assert {"row", *row} == set(FIELDS)
        json.dumps(row, allow_nan=False)
    assert rows[0]["error"] is None
    assert rows[0]["value"] == 7
    assert rows[0]["finish_reasons"] == {"extract": "stop", "answer": "length"}


def test_an_error_stays_in_its_row(pipe: FakePipe, answerer: RowAnswerer) -> None:
    bad = answerer.answer("bad", "What?", "1")
    assert bad["error"] == {
        "type": "ImageDecodeError",
        "message": "cannot decode the image: damaged",
    }
    assert bad["picture_sha256"] == "1"
    again = answerer.answer("bad", "What?", "1")
    assert again["error"] == bad["error"]
    assert answerer.answer("a", "fault", "2")["error"]["type"] == "ZeroDivisionError"
    assert answerer.answer("a", "What?", "2")["text"] == "a: What? 3"
