from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from tiny.bundle import build_bundle
from tiny.fakes import FakeTower, ForcedKVCache, new_chat_model
from tiny.thoughts import HINTED, THOUGHTS, change_bundle

from edge_et.errors import BusyError, OptionError
from edge_et.llm import Tokenizer
from edge_et.options import AnswerOptions
from edge_et.pipeline import ExtractThink
from edge_et.pipeline.models import Models
from edge_et.results import Answer, Progress

DARK, LIGHT = np.full((9, 9, 3), 40, np.uint8), np.full((9, 9, 3), 200, np.uint8)
TURNS = ("a ball<|im_end|>", "It is red.\nAnswer:", " red<|im_end|>")
EVERY = {
    "max_extraction_tokens": 3,
    "max_thinking_tokens": 2,
    "max_answer_tokens": 4,
    "temperature": 1.5,
    "top_p": 0.5,
    "seed": 7,
    "hint": "the ball",
    "thinking": True,
    "look_again": 1,
    "deadline_s": 1e6,
    "choices": ("no", "on"),
    "kind": "number",
    "schema": {"type": "string", "maxLength": 8},
    "history": [{"role": "system", "content": "Be brief."}],
    "stop": ("table", "on"),
    "top_logprobs": 2,
    "confidence": "written",
}
# Of these only one can be asked for at a time.
FORMS = ("choices", "kind", "schema", "stop", "top_logprobs")
TOGETHER = [{**EVERY, **dict.fromkeys({*FORMS} - {form})} for form in FORMS]


class Parts:
    """A pipeline over fakes, with the fakes at hand."""

    def __init__(self, folder: Path, *texts: str, endless: bool = False) -> None:
        build_bundle(folder)
        thoughts = replace(THOUGHTS, default=False)
        manifest = change_bundle(folder, extract={"prompt": HINTED}, think={"thoughts": thoughts})
        tokenizer = Tokenizer(folder / "tokenizer.json")
        self.cache = ForcedKVCache(tokenizer, *texts, endless=endless)
        self.tower = FakeTower()
        self.pipeline = ExtractThink(
            manifest,
            tower=self.tower,
            contexts=[Models(perceiver=new_chat_model(tokenizer, self.cache))],
            image_cache_bytes=0,
        )


def last(stream: Any) -> Answer:
    *_, answer = stream
    assert isinstance(answer, Answer)
    return answer


def told(answer: Answer) -> dict[str, Any]:
    """What an answer says, without the time it took."""
    document = answer.to_dict()
    for usage in document["usage"].values():
        del usage["seconds"]
    for extraction in document["extractions"]:
        del extraction["usage"]["seconds"]
    return document


def test_every_option_but_those_of_the_picture_is_here() -> None:
    assert set(EVERY) == set(AnswerOptions.__struct_fields__) - {"max_tiles", "pooling"}


@pytest.mark.parametrize("options", TOGETHER, ids=FORMS)
def test_options_are_passed_on(tmp_path: Path, options: dict[str, Any]) -> None:
    endless = ("on the table and on ",)
    plain = Parts(tmp_path, *endless, endless=True)
    expected = told(plain.pipeline.answer(DARK, "A?", **options))
    for streamed in (False, True):
        parts = Parts(tmp_path, *endless, endless=True)
        session = parts.pipeline.session(DARK)
        found = told(
            last(session.stream("A?", **options)) if streamed else session.answer("A?", **options)
        )
        assert parts.cache.prompts == plain.cache.prompts
        assert {k: v for k, v in found.items() if k != "usage"} == {
            k: v for k, v in expected.items() if k != "usage"
        }
        for phase in ("extract", "think"):
            assert found["usage"][phase] == expected["usage"][phase]


@pytest.mark.parametrize("name", EVERY)
def test_wrong_options_are_refused_at_once(tmp_path: Path, name: str) -> None:
    parts = Parts(tmp_path)
    session = parts.pipeline.session(DARK)
    for call in (session.answer, session.stream):
        with pytest.raises(OptionError) as caught:
            call("A?", **{name: -1})  # type: ignore[arg-type]
        assert caught.value.name == name


def test_two_sessions_take_turns_and_keep_their_pictures(tmp_path: Path) -> None:
    parts = Parts(tmp_path, *TURNS * 4)
    dark, light = parts.pipeline.session(DARK), parts.pipeline.session(LIGHT)
    assert dark.image.digest != light.image.digest
    for session in (dark, light, dark, light):
        assert session.answer("Which colour?").text == "red"
        pictures = {held[0] for held in parts.cache.cached if isinstance(held, tuple)}
        assert pictures - {"generated"} == {session.image.digest}
    assert parts.tower.runs == 2


def test_two_sessions_cannot_write_at_once(tmp_path: Path) -> None:
    parts = Parts(tmp_path, TURNS[0], *TURNS)
    dark, light = parts.pipeline.session(DARK), parts.pipeline.session(LIGHT)
    stream = dark.stream("A?")
    assert isinstance(next(stream), Progress)
    with pytest.raises(BusyError):
        light.answer("A?")
    stream.close()
    assert light.answer("A?").text == "red"
