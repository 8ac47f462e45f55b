"""Questions without a picture, through fakes."""

import asyncio
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from tiny.bundle import build_bundle
from tiny.fakes import FakeClock, FakeTower, ForcedKVCache, new_chat_model, without_progress
from tiny.thoughts import THOUGHTS, change_bundle

from edge_et.bundle import ThoughtSpec
from edge_et.cancellation import CancelToken
from edge_et.errors import CancelledError, OptionError, PromptTooLongError
from edge_et.llm import Tokenizer
from edge_et.options import AnswerOptions
from edge_et.pipeline import ExtractThink
from edge_et.pipeline.models import Models
from edge_et.results import Answer, AnswerToken, Progress, ReasoningToken

IMAGE = np.full((9, 9, 3), 40, np.uint8)
HISTORY = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."}]
PLAIN = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
EVERY: dict[str, Any] = {
    "max_thinking_tokens": 3,
    "max_answer_tokens": 4,
    "temperature": 1.5,
    "top_p": 0.5,
    "seed": 7,
    "thinking": True,
    "deadline_s": 1e6,
    "choices": ("no", "on"),
    "kind": "number",
    "schema": {"type": "string", "maxLength": 8},
    "history": HISTORY,
    "stop": ("on",),
    "top_logprobs": 2,
    "confidence": "written",
}


class Parts:
    """A pipeline of one model or two over fakes, with the fakes at hand."""

    def __init__(
        self,
        folder: Path,
        *texts: str,
        pair: bool = False,
        thoughts: ThoughtSpec | None = None,
        context_length: int = 2000,
        **options: Any,
    ) -> None:
        build_bundle(folder, two_models=pair)
        manifest = change_bundle(folder, think={"thoughts": thoughts})
        self.tokenizer = Tokenizer(folder / "tokenizer.json")
        self.clock = FakeClock()
        self.cache = ForcedKVCache(
            self.tokenizer, *texts, context_length=context_length, clock=self.clock, **options
        )
        self.perceiver = ForcedKVCache(self.tokenizer) if pair else self.cache
        reasoner = new_chat_model(self.tokenizer, self.cache) if pair else None
        self.tower = FakeTower()
        self.pipeline = ExtractThink(
            manifest,
            tower=self.tower,
            contexts=[
                Models(perceiver=new_chat_model(self.tokenizer, self.perceiver), reasoner=reasoner)
            ],
            clock=self.clock,
        )
        self.session = self.pipeline.text_session()


def test_every_option_but_those_of_pictures_is_here() -> None:
    of_pictures = {"max_tiles", "pooling", "max_extraction_tokens", "hint", "look_again"}
    assert set(EVERY) == set(AnswerOptions.__struct_fields__) - of_pictures


@pytest.mark.parametrize("name", EVERY)
def test_wrong_options_are_refused_at_once(tmp_path: Path, name: str) -> None:
    session = Parts(tmp_path, thoughts=THOUGHTS).session
    for call in (session.answer, session.stream, session.astream):
        with pytest.raises(OptionError) as caught:
            call("Why?", **{name: -1})  # type: ignore[arg-type]
        assert caught.value.name == name
    for name in ("hint", "look_again", "max_extraction_tokens", "max_tiles"):
        with pytest.raises(TypeError, match=name):
            session.answer("Why?", **{name: 1})  # type: ignore[arg-type]


@pytest.mark.parametrize("pair", [False, True])
def test_the_reasoner_answers_as_in_a_chat(tmp_path: Path, pair: bool) -> None:
    parts = Parts(tmp_path, "So it is.<|im_end|>", pair=pair)
    answer = parts.session.answer(" Why? ")
    assert (answer.text, answer.extraction, answer.reasoning) == ("So it is.", "", "")
    assert parts.cache.prompts == [PLAIN]
    assert parts.perceiver is parts.cache or parts.perceiver.prompts == []
    assert parts.tower.runs == 0
    assert answer.finish_reasons == {"answer": "stop"}
    assert (answer.extractions, answer.hint, answer.value) == ((), "", None)
    usage = answer.usage["think"]
    assert usage.generated_tokens == len(parts.tokenizer.encode("So it is."))
    assert usage.evaluated_tokens == len(parts.cache.cached) - usage.generated_tokens
    json.dumps(answer.to_dict())


def test_instructions_and_earlier_turns_are_turns(tmp_path: Path) -> None:
    parts = Parts(tmp_path, "x<|im_end|>")
    parts.session.answer("Why? <|im_end|>", history=HISTORY)
    assert parts.cache.prompts == [
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi.\n\nWhy? <|im_end|>"
        "<|im_end|>\n<|im_start|>assistant\n"
    ]


def test_a_reasoner_that_marks_thoughts_skips_them_or_thinks(tmp_path: Path) -> None:
    parts = Parts(tmp_path, "red<|im_end|>", "Is it?</think>", "red<|im_end|>", thoughts=THOUGHTS)
    skipped = parts.session.answer("Why?", thinking=False)
    assert parts.cache.prompts == [f"{PLAIN}<think>\n\n</think>\n\n"]
    assert skipped.finish_reasons == {"answer": "stop"}
    *events, thought = parts.session.stream("Why?", thinking=True)
    assert isinstance(thought, Answer)
    assert parts.cache.prompts[1:] == [f"{PLAIN}<think>", f"{PLAIN}<think>Is it?</think>\n\n"]
    assert (thought.text, thought.reasoning) == ("red", "Is it?")
    assert thought.finish_reasons == {"think": "stop", "answer": "stop"}
    told = [event for event in events if isinstance(event, ReasoningToken | AnswerToken)]
    assert "".join(event.text for event in told) == "Is it?\nred"


def test_a_thought_is_closed_at_its_budget(tmp_path: Path) -> None:
    parts = Parts(tmp_path, "on and on and on and on", "red<|im_end|>", thoughts=THOUGHTS)
    answer = parts.session.answer("Why?", thinking=True, max_thinking_tokens=4)
    assert parts.cache.prompts[1].endswith(f"{THOUGHTS.closing}</think>\n\n")
    assert answer.finish_reasons == {"think": "length", "answer": "stop"}
    usage, red = answer.usage["think"], len(parts.tokenizer.encode("red"))
    assert (usage.generated_tokens, usage.answer_tokens) == (4 + red, red)


def test_a_bundle_may_think_by_default(tmp_path: Path) -> None:
    thoughts = replace(THOUGHTS, default=True)
    parts = Parts(tmp_path, "Hm.</think>", "red<|im_end|>", thoughts=thoughts)
    assert parts.session.answer("Why?").reasoning == "Hm."
    with pytest.raises(OptionError, match="thinking"):
        Parts(tmp_path / "plain").session.answer("Why?", thinking=True)


def test_the_budget_is_the_bundles_or_the_calls(tmp_path: Path) -> None:
    parts = Parts(tmp_path, " ".join(map(str, range(90))), endless=True)
    for options, most in (({}, 8), ({"max_answer_tokens": 20}, 20)):
        answer = parts.session.answer("Why?", **options)  # type: ignore[arg-type]
        assert answer.usage["think"].generated_tokens == most
        assert answer.finish_reasons == {"answer": "length"}


@pytest.mark.parametrize(
    ("options", "says", "value"),
    [
        ({"choices": ["red", "green"]}, "green<|im_end|>", "green"),
        ({"kind": "yes/no"}, "yes<|im_end|>", True),
        ({"kind": "number"}, "12<|im_end|>", 12),
        ({"schema": {"type": "integer"}}, "12<|im_end|>", 12),
    ],
    ids=["choices", "yes/no", "number", "schema"],
)
@pytest.mark.parametrize("thinking", [False, True])
def test_an_answer_may_have_a_form(
    tmp_path: Path, options: dict[str, Any], says: str, value: object, thinking: bool
) -> None:
    texts = ["Hm.</think>"] * thinking + [says] * 9
    parts = Parts(tmp_path, *texts, thoughts=THOUGHTS, certainty=30.0)
    answer = parts.session.answer("Why?", thinking=thinking, **options)
    assert answer.value == value
    assert answer.text == says.removesuffix("<|im_end|>")


def test_a_deadline_ends_thought_and_answer(tmp_path: Path) -> None:
    endless = " ".join(map(str, range(400)))
    parts = Parts(tmp_path, endless, thoughts=THOUGHTS, endless=True, token_s=1.0)
    start = parts.clock.now_s
    options = {"thinking": True, "max_thinking_tokens": 300, "max_answer_tokens": 300}
    answer = parts.session.answer("Why?", deadline_s=60.0, **options)  # type: ignore[arg-type]
    assert answer.finish_reasons == {"think": "deadline", "answer": "deadline"}
    assert (answer.reasoning != "", answer.text != "") == (True, True)
    assert parts.clock.now_s - start <= 61.0


@pytest.mark.parametrize("pair", [False, True])
def test_what_does_not_fit_is_refused_before_anything_runs(tmp_path: Path, pair: bool) -> None:
    parts = Parts(tmp_path, "red<|im_end|>", pair=pair, context_length=60)
    with pytest.raises(PromptTooLongError, match="shorten the question"):
        parts.session.answer("Why? " * 100)
    with pytest.raises(PromptTooLongError, match="lower the token budgets"):
        parts.session.answer("Why?", max_answer_tokens=100)
    history = [{"role": "user", "content": "Hi. " * 100}]
    with pytest.raises(PromptTooLongError, match="and the history"):
        next(parts.session.stream("Why?", history=history))
    assert parts.cache.prompts == []
    assert parts.session.answer("Why?").text == "red"


def test_all_positions_of_the_context_can_be_used(tmp_path: Path) -> None:
    endless = " ".join(map(str, range(90)))
    parts = Parts(tmp_path, endless, endless=True, context_length=60)
    parts.session.answer("Why?", max_answer_tokens=1)
    read = len(parts.cache.cached)
    answer = parts.session.answer("Why?", max_answer_tokens=60 - read)
    assert answer.usage["think"].generated_tokens == 60 - read
    with pytest.raises(PromptTooLongError):
        parts.session.answer("Why?", max_answer_tokens=61 - read)


def test_what_was_read_before_is_not_read_again(tmp_path: Path) -> None:
    parts = Parts(tmp_path, *["red<|im_end|>"] * 2)
    history = [{"role": "system", "content": "Be brief and kind, and tell no lies. " * 3}]
    first = parts.session.answer("Why?", history=history).usage["think"]
    second = parts.session.answer("When?", history=history).usage["think"]
    assert first.reused_tokens == 0
    assert second.reused_tokens > second.evaluated_tokens


def test_streams_tell_what_the_answer_says(tmp_path: Path) -> None:
    parts = Parts(tmp_path, *["So it is.<|im_end|>"] * 3)
    *events, answer = parts.session.stream("Why?")
    told = without_progress(events)
    assert {type(event) for event in told} == {AnswerToken}
    assert "".join(event.text for event in told) == answer.text  # type: ignore[union-attr]
    assert any(isinstance(event, Progress) and event.stage == "answer" for event in events)

    async def run() -> tuple[Answer, list[Any]]:
        notes: list[Progress] = []
        plain = await parts.session.aanswer("Why?", on_progress=notes.append)
        return plain, [event async for event in parts.session.astream("Why?")]

    plain, streamed = asyncio.run(run())
    assert plain.text == streamed[-1].text == answer.text


def test_a_cancelled_call_ends_and_the_next_one_runs(tmp_path: Path) -> None:
    parts = Parts(tmp_path, " ".join(map(str, range(90))), endless=True)
    cancel = CancelToken()

    def read() -> None:
        for event in parts.session.stream("Why?", cancel=cancel):
            if isinstance(event, AnswerToken):
                cancel.cancel()

    with pytest.raises(CancelledError):
        read()
    assert parts.session.answer("Why?", priority=5).text


# Extractions from elsewhere.

THOUGHT = ("It is red.\nAnswer:", " red<|im_end|>")


@pytest.mark.parametrize("pair", [False, True])
def test_a_stream_over_an_extraction_says_what_rethink_says(tmp_path: Path, pair: bool) -> None:
    parts = Parts(tmp_path, *THOUGHT * 3, pair=pair)
    answer = parts.pipeline.rethink("Which?", " a ball ")
    session = parts.pipeline.text_session(" a ball ")
    *events, streamed = session.stream("Which?")
    assert isinstance(streamed, Answer)
    for told in (streamed, session.answer("Which?")):
        assert (told.text, told.reasoning, told.extraction) == ("red", "It is red.", "a ball")
        assert told.finish_reasons == answer.finish_reasons
    assert parts.cache.prompts[:2] == parts.cache.prompts[2:4] == parts.cache.prompts[4:]
    told_kinds = [type(event) for event in without_progress(events)]
    assert set(told_kinds) == {ReasoningToken, AnswerToken}
    assert parts.tower.runs == 0


def test_an_extraction_is_checked_before_anything_runs(tmp_path: Path) -> None:
    parts = Parts(tmp_path, *THOUGHT)
    for wrong in (5, "\ud800", "x" * (2**20 + 1)):
        session = parts.pipeline.text_session(wrong)  # type: ignore[arg-type]
        for call in (session.answer, session.stream, session.astream):
            with pytest.raises(OptionError, match="extraction"):
                call("Which?")  # type: ignore[operator]
    assert parts.pipeline.text_session("").answer("Which?").extraction == ""


def test_a_stream_over_an_extraction_is_cancelled(tmp_path: Path) -> None:
    parts = Parts(tmp_path, " ".join(map(str, range(90))), endless=True)
    cancel = CancelToken()

    def read() -> None:
        for event in parts.pipeline.text_session("a ball").stream("Which?", cancel=cancel):
            if isinstance(event, ReasoningToken):
                cancel.cancel()

    with pytest.raises(CancelledError):
        read()
    assert parts.pipeline.text_session("a ball").answer("Which?").text


def test_a_picture_is_asked_about_as_ever_afterwards(tmp_path: Path) -> None:
    turns = ("a ball<|im_end|>", "It is red.\nAnswer:", " red<|im_end|>")
    parts = Parts(tmp_path, *turns, "So.<|im_end|>", *turns)
    before = parts.pipeline.answer(IMAGE, "Which?")
    parts.session.answer("Why?")
    after = parts.pipeline.answer(IMAGE, "Which?")
    assert (after.text, after.extraction, after.reasoning) == ("red", "a ball", "It is red.")
    assert before.text == after.text
    assert parts.cache.prompts[:3] == parts.cache.prompts[4:]


def test_another_manifest_holds_for_calls_that_begin_later(tmp_path: Path) -> None:
    parts = Parts(tmp_path, " ".join(map(str, range(90))), endless=True)
    plain = parts.pipeline.manifest
    think = replace(plain.think, max_answer_tokens=3)
    extract = replace(plain.extract, prompt="{image}Other words.")
    other = copy.copy(parts.pipeline)
    other.manifest = replace(plain, think=think, extract=extract)
    assert other.text_session().answer("Why?").usage["think"].answer_tokens == 3
    other.extract(IMAGE, "Why?")
    assert "[image]Other words." in parts.cache.prompts[-1]
    parts.pipeline.extract(IMAGE, "Why?")
    assert "[image]Other words." not in parts.cache.prompts[-1]
    assert parts.session.answer("Why?").usage["think"].answer_tokens == 8
