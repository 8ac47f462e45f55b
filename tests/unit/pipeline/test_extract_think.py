import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tiny.bundle import build_bundle
from tiny.fakes import FakeTower, ForcedKVCache, new_chat_model, without_progress

from edge_et.errors import (
    BusyError,
    ClosedError,
    DecodeError,
    ImageInputError,
    OptionError,
    PromptTooLongError,
)
from edge_et.image import ImageTokens
from edge_et.llm import Tokenizer
from edge_et.options import AnswerOptions
from edge_et.pipeline import ExtractThink
from edge_et.pipeline.models import Models
from edge_et.results import Answer, AnswerToken, ExtractionToken, ReasoningToken

IMAGE = np.full((9, 9, 3), 40, np.uint8)
TURNS = ("a ball<|im_end|>", "It is red.\nAnswer:", " red<|im_end|>")


class Parts:
    """A pipeline over fakes, with the fakes at hand."""

    def __init__(self, folder: Path, *texts: str, **options: Any) -> None:
        manifest = build_bundle(folder)
        tokenizer = Tokenizer(folder / "tokenizer.json")
        self.context = ForcedKVCache(tokenizer, *texts)
        self.tower = FakeTower()
        self.pipeline = ExtractThink(
            manifest,
            tower=self.tower,
            contexts=[Models(perceiver=new_chat_model(tokenizer, self.context))],
            **options,
        )


def test_both_stages_are_told_and_measured(tmp_path: Path) -> None:
    parts = Parts(tmp_path, *TURNS)
    *events, answer = without_progress(parts.pipeline.stream(IMAGE, " Which colour? "))
    assert isinstance(answer, Answer)
    assert (answer.extraction, answer.reasoning, answer.text) == ("a ball", "It is red.", "red")
    kinds = [type(event) for event in events]
    assert kinds == sorted(kinds, key=[ExtractionToken, ReasoningToken, AnswerToken].index)
    assert parts.context.prompts[0] == (
        "<|im_start|>user\n[image]Describe what the picture shows. Pay attention to: "
        "Which colour?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert parts.context.prompts[1] == (
        f"{parts.context.prompts[0]}a ball<|im_end|>\n"
        "<|im_start|>user\nWhich colour?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert set(answer.usage) == {"image", "vision", "extract", "think"}
    assert answer.usage["vision"].evaluated_tokens == 16
    assert answer.usage["think"].generated_tokens == sum(
        len(parts.pipeline._models.perceiver.tokenizer.encode(text))
        for text in ("It is red.\nAnswer:", " red")
    )
    document = answer.to_dict()
    assert document["text"] == "red"
    assert document["usage"]["extract"]["generated_tokens"] > 0


def test_the_same_picture_runs_the_tower_once(tmp_path: Path) -> None:
    parts = Parts(tmp_path, *TURNS, *TURNS)
    parts.pipeline.answer(IMAGE, "A?")
    second = parts.pipeline.answer(IMAGE.copy(), "B?")
    assert parts.tower.runs == 1
    assert (second.usage["vision"].evaluated_tokens, second.usage["vision"].reused_tokens) == (
        0,
        16,
    )


def test_nothing_is_remembered_without_room(tmp_path: Path) -> None:
    parts = Parts(tmp_path, *TURNS, *TURNS, image_cache_bytes=0)
    parts.pipeline.answer(IMAGE, "A?")
    parts.pipeline.answer(IMAGE, "B?")
    assert parts.tower.runs == 2


def test_a_session_encodes_once(tmp_path: Path) -> None:
    parts = Parts(tmp_path, *TURNS, *TURNS, image_cache_bytes=0)
    session = parts.pipeline.session(IMAGE)
    session.answer("A?")
    *_, answer = session.stream("B?")
    assert parts.tower.runs == 1
    assert isinstance(answer, Answer)
    assert answer.usage["vision"].reused_tokens == 16


@pytest.mark.parametrize("question", ["", " \n", None, "\ud800"])
def test_questions_that_are_none(tmp_path: Path, question: Any) -> None:
    with pytest.raises(OptionError, match="question"):
        Parts(tmp_path).pipeline.stream(IMAGE, question)


def test_wrong_options_are_told_before_anything_runs(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    with pytest.raises(OptionError, match="max_thinking_tokens"):
        parts.pipeline.stream(IMAGE, "A?", max_thinking_tokens=-1)
    assert parts.tower.runs == 0


def test_a_question_that_might_not_fit_is_refused_before_it_is_evaluated(tmp_path: Path) -> None:
    parts = Parts(tmp_path, *TURNS)
    with pytest.raises(PromptTooLongError) as caught:
        parts.pipeline.answer(IMAGE, "why? " * 200)
    assert caught.value.tokens > caught.value.limit == 500
    with pytest.raises(PromptTooLongError):
        parts.pipeline.answer(IMAGE, "A?", max_thinking_tokens=450)
    assert parts.context.prompts == []
    assert parts.pipeline.answer(IMAGE, "A?").text == "red"


@pytest.mark.parametrize(
    ("question", "options", "helps"),
    [
        ("why? " * 200, {}, ("shorten the question",)),
        ("A?", {"max_thinking_tokens": 480}, ("lower the token budgets",)),
        (
            "why? " * 30,
            {"max_answer_tokens": 300},
            ("shorten the question", "lower the token budgets"),
        ),
        (
            "why? " * 200,
            {"max_thinking_tokens": 480},
            ("shorten the question and lower the token budgets",),
        ),
    ],
)
def test_what_would_help_is_told(
    tmp_path: Path, question: str, options: dict[str, Any], helps: tuple[str, ...]
) -> None:
    parts = Parts(tmp_path, *TURNS)
    with pytest.raises(PromptTooLongError) as caught:
        parts.pipeline.answer(IMAGE, question, **options)
    assert caught.value.helps == helps
    assert ", or ".join(helps) in str(caught.value)


@pytest.mark.parametrize(
    ("question", "answer_tokens", "helps"),
    [
        ("why? " * 200, 1, ("shorten the question",)),
        ("A?", 490, ("lower the token budgets",)),
        ("why? " * 30, 400, ("shorten the question", "lower the token budgets")),
    ],
)
def test_what_would_help_a_direct_answer_is_told(
    tmp_path: Path, question: str, answer_tokens: int, helps: tuple[str, ...]
) -> None:
    with pytest.raises(PromptTooLongError) as caught:
        Parts(tmp_path, *TURNS).pipeline.answer_directly(
            IMAGE, question, max_answer_tokens=answer_tokens
        )
    assert caught.value.helps == helps


def test_options_reach_the_stages(tmp_path: Path) -> None:
    parts = Parts(tmp_path, "one two three four", "five six seven", "eight nine ten")
    answer = parts.pipeline.answer(
        IMAGE, "A?", max_extraction_tokens=2, max_thinking_tokens=1, max_answer_tokens=3
    )
    assert answer.usage["extract"].generated_tokens == 2
    assert answer.usage["think"].generated_tokens == 4


def test_a_pipeline_survives_an_error_half_way(tmp_path: Path) -> None:
    parts = Parts(tmp_path, TURNS[0], *TURNS)
    stream = parts.pipeline.stream(IMAGE, "A?")
    next(event for event in stream if isinstance(event, ExtractionToken))
    parts.context.fail = True
    with pytest.raises(DecodeError):
        list(stream)
    assert parts.pipeline.answer(IMAGE, "A?").text == "red"


def test_a_pipeline_survives_a_stream_that_is_left(tmp_path: Path) -> None:
    parts = Parts(tmp_path, TURNS[0], *TURNS)
    for event in parts.pipeline.stream(IMAGE, "A?"):
        if isinstance(event, ExtractionToken):
            break
    assert parts.pipeline.answer(IMAGE, "A?").text == "red"


def test_an_unfinished_stream_of_this_thread_is_no_deadlock(tmp_path: Path) -> None:
    parts = Parts(tmp_path, TURNS[0], *TURNS)
    stream = parts.pipeline.stream(IMAGE, "A?")
    next(event for event in stream if isinstance(event, ExtractionToken))
    with pytest.raises(BusyError):
        parts.pipeline.answer(IMAGE, "A?")
    stream.close()
    assert parts.pipeline.answer(IMAGE, "A?").text == "red"


def test_the_answer_is_told_with_the_pipeline_free(tmp_path: Path) -> None:
    parts = Parts(tmp_path, *TURNS, *TURNS)
    stream = parts.pipeline.stream(IMAGE, "A?")
    while not isinstance(next(stream), Answer):
        pass
    assert parts.pipeline.answer(IMAGE, "B?").text == "red"


def test_threads_take_turns(tmp_path: Path) -> None:
    parts = Parts(tmp_path, *TURNS * 4)
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda: answers.append(parts.pipeline.answer(IMAGE, "A?").text))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert answers == ["red"] * 4


def test_a_closed_pipeline_says_so(tmp_path: Path) -> None:
    parts = Parts(tmp_path, *TURNS)
    with parts.pipeline as pipeline:
        session = pipeline.session(IMAGE)
    pipeline.close()
    for call in (
        lambda: pipeline.answer(IMAGE, "A?"),
        lambda: pipeline.encode_image(IMAGE),
        lambda: session.answer("A?"),
        pipeline.clear,
    ):
        with pytest.raises(ClosedError):
            call()


def test_closing_ends_an_unfinished_stream(tmp_path: Path) -> None:
    parts = Parts(tmp_path, *TURNS)
    stream = parts.pipeline.stream(IMAGE, "A?")
    next(stream)
    parts.pipeline.close()
    stream.close()
    with pytest.raises(ClosedError):
        parts.pipeline.answer(IMAGE, "A?")


def test_stages_can_be_run_one_by_one(tmp_path: Path) -> None:
    parts = Parts(tmp_path, *TURNS)
    image = parts.pipeline.encode_image(IMAGE)
    extraction = parts.pipeline.extract(image, "Which colour?")
    thought = parts.pipeline.think("Which colour?", extraction)
    assert (extraction.text, thought.answer) == ("a ball", "red")
    assert parts.tower.runs == 1


def test_the_baseline_asks_once(tmp_path: Path) -> None:
    parts = Parts(tmp_path, " red<|im_end|>")
    answer = parts.pipeline.answer_directly(IMAGE, "Which colour?")
    assert (answer.text, answer.extraction, answer.reasoning) == ("red", "", "")
    assert parts.context.prompts == [
        "<|im_start|>user\n[image]Which colour?<|im_end|>\n<|im_start|>assistant\n"
    ]


DIRECT_PROMPT = "<|im_start|>user\n[image]Which colour?<|im_end|>\n<|im_start|>assistant\n"
ASK_FOR_TWO_STAGES: tuple[dict[str, Any], ...] = (
    {"max_extraction_tokens": 9},
    {"max_thinking_tokens": 9},
    {"history": [{"role": "user", "content": "Hi."}]},
    {"choices": ["red", "blue"]},
    {"kind": "yes/no"},
)


def prefer_one_stage(parts: Parts) -> None:
    manifest = parts.pipeline.manifest
    assert manifest.direct is not None
    direct = msgspec.structs.replace(manifest.direct, default=True)
    parts.pipeline.manifest = msgspec.structs.replace(manifest, direct=direct)


def test_a_bundle_may_prefer_one_stage(tmp_path: Path) -> None:
    parts = Parts(tmp_path, *[" red<|im_end|>"] * 2)
    prefer_one_stage(parts)
    nothing: dict[str, Any] = {"history": [], "thinking": False, "max_thinking_tokens": 0}
    answer = parts.pipeline.answer(IMAGE, "Which colour?", max_answer_tokens=5, **nothing)
    *_, last = parts.pipeline.stream(IMAGE, "Which colour?")
    assert (answer.text, answer.extraction, answer.reasoning) == ("red", "", "")
    assert isinstance(last, Answer)
    assert last.text == "red"
    assert set(answer.finish_reasons) == {"answer"}
    assert parts.context.prompts == [DIRECT_PROMPT] * 2


@pytest.mark.parametrize("options", ASK_FOR_TWO_STAGES, ids=lambda options: next(iter(options)))
def test_what_asks_for_two_stages_gets_them(tmp_path: Path, options: dict[str, Any]) -> None:
    parts = Parts(tmp_path, *TURNS)
    prefer_one_stage(parts)
    answer = parts.pipeline.answer(IMAGE, "Which colour?", **options)
    assert answer.extraction == "a ball"


def test_image_tokens_of_another_width_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageInputError):
        Parts(tmp_path).pipeline.answer(ImageTokens(np.zeros((4, 31), np.float32), "x"), "A?")


CALLS = ("answer", "stream", "extract", "rethink", "answer_directly")


@pytest.mark.parametrize("option", AnswerOptions.__struct_fields__)
def test_no_option_is_lost_on_the_way(tmp_path: Path, option: str) -> None:
    parts = Parts(tmp_path)
    for name in CALLS:
        first = "A?" if name == "rethink" else IMAGE
        with pytest.raises(OptionError) as caught:
            getattr(parts.pipeline, name)(first, "A?", **{option: -1})
        assert caught.value.name == option, name
    assert parts.tower.runs == 0


@pytest.mark.parametrize("extraction", [None, "a ball"])
def test_stage_2_wants_what_stage_1_returned(tmp_path: Path, extraction: Any) -> None:
    with pytest.raises(OptionError, match="rethink"):
        Parts(tmp_path, *TURNS).pipeline.think("Which colour?", extraction)


def test_a_closed_pipeline_tells_no_cost(tmp_path: Path) -> None:
    pipeline = Parts(tmp_path, *TURNS).pipeline
    assert pipeline.image_cost(IMAGE).tiles == 1
    pipeline.close()
    with pytest.raises(ClosedError):
        pipeline.image_cost(IMAGE)
