"""How far a call is, as its caller is told, over fakes whose steps take a known time."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny.bundle import build_bundle
from tiny.fakes import FakeClock, FakeTower, ForcedKVCache, new_chat_model

from edge_et.errors import OptionError
from edge_et.llm import Tokenizer
from edge_et.pipeline import ExtractThink
from edge_et.pipeline.models import Models
from edge_et.results import Progress

IMAGE = np.full((9, 9, 3), 40, np.uint8)
TURNS = ("a ball that lies on the green grass<|im_end|>", "It is red.\nAnswer:", " red<|im_end|>")


@pytest.fixture
def pipe(tmp_path: Path) -> ExtractThink:
    manifest = build_bundle(tmp_path)
    tokenizer = Tokenizer(tmp_path / "tokenizer.json")
    cache = ForcedKVCache(
        tokenizer, *TURNS * 2, batch=16, clock=FakeClock(), position_s=0.5, token_s=2.0
    )
    models = Models(perceiver=new_chat_model(tokenizer, cache))
    return ExtractThink(manifest, tower=FakeTower(), contexts=[models], clock=cache._clock)


def test_a_caller_is_told_of_every_batch_and_some_tokens(pipe: ExtractThink) -> None:
    told: list[Progress] = []
    pipe.answer(IMAGE, "Which colour?", on_progress=told.append)
    phases = [(one.stage, one.phase) for one in told]
    assert phases[0] == ("vision", "encode")
    assert [one for one in phases if one[1] == "prefill"].count(("extract", "prefill")) == 4
    assert {stage for stage, phase in phases if phase == "decode"} >= {"extract", "think"}
    for before, after in pairwise(told):
        if (before.stage, before.phase) == (after.stage, after.phase):
            assert before.done < after.done <= after.total == before.total
    reading = [one for one in told if (one.stage, one.phase) == ("extract", "prefill")]
    assert reading[0].seconds_left is None  # nothing was measured yet


def test_the_rest_is_estimated_from_what_was_measured(pipe: ExtractThink) -> None:
    pipe.answer(IMAGE, "Which colour?")
    told: list[Progress] = []
    pipe.clear()
    pipe.answer(IMAGE, "Which colour?", on_progress=told.append)
    for one in told:
        if one.phase == "prefill":
            assert one.seconds_left == pytest.approx(0.5 * (one.total - one.done))
        elif one.phase == "decode":
            assert one.seconds_left == pytest.approx(2.0 * (one.total - one.done))
    assert told[0].phase == "encode"
    assert told[0].seconds_left is not None


def test_a_stream_has_the_same_notes(pipe: ExtractThink) -> None:
    told: list[Any] = []
    pipe.answer(IMAGE, "Which colour?", on_progress=told.append)
    pipe.clear()
    notes = [event for event in pipe.stream(IMAGE, "Which colour?") if isinstance(event, Progress)]
    assert [(n.stage, n.phase, n.done) for n in notes] == [(n.stage, n.phase, n.done) for n in told]


def test_what_a_listener_raises_ends_the_call(pipe: ExtractThink) -> None:
    def leave(progress: Progress) -> None:
        raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        pipe.answer(IMAGE, "Which colour?", on_progress=leave)
    assert pipe.answer(IMAGE, "Which colour?").text == "red"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("priority", "high"),
        ("priority", True),
        ("priority", 1001),
        ("cancel", lambda: None),
        ("on_progress", 5),
    ],
)
def test_a_caller_that_makes_no_sense_is_refused(
    pipe: ExtractThink, name: str, value: object
) -> None:
    with pytest.raises(OptionError) as caught:
        pipe.answer(IMAGE, "Which colour?", **{name: value})  # type: ignore[arg-type]
    assert caught.value.name == name
