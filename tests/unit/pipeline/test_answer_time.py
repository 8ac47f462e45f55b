"""The time of an answer that uses up its budgets, from figures of a profile."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from tiny.bundle import build_bundle
from tiny.profiles import write_profile
from tiny.thoughts import HINT, HINTED, THOUGHTS, change_bundle

from edge_et.bundle import load_bundle
from edge_et.llm import ModelShape
from edge_et.pipeline import ModelSpeed, longest_answer
from edge_et.pipeline.answer_time import AnswerTime

SPEED = ModelSpeed(prompt_tokens=100, prompt_seconds=1e-9, token_seconds=0.5)
READER = ModelSpeed(prompt_tokens=100, prompt_seconds=2.0, token_seconds=1e-9)
SLOW = msgspec.structs.replace(SPEED, token_seconds=5.0)


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))


def longest(
    folder: Path, speed: ModelSpeed | None, image_tokens: int | None = 16, **fields: Any
) -> AnswerTime | None:
    bundle = load_bundle(folder)
    profile = write_profile(bundle, perceiver_speed=speed, kv_type="f16", **fields)
    return longest_answer(bundle, profile, image_tokens)


def test_nothing_is_known_before_it_was_measured(tiny_bundle: Path, tiny_pair: Path) -> None:
    assert longest(tiny_bundle, None) is None
    assert longest(tiny_pair, SPEED) is None
    assert longest(tiny_pair, SPEED, reasoner_speed=SPEED) is not None


@pytest.mark.parametrize(("thinks", "thought"), [(True, 12), (False, 20)])
def test_every_token_of_the_budgets_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thinks: bool, thought: int
) -> None:
    monkeypatch.setattr(ModelShape, "kv_bytes", lambda *_: 0)  # a token takes the same anywhere
    build_bundle(tmp_path / "bundle")
    thoughts = msgspec.structs.replace(THOUGHTS, default=thinks)
    extract = {"prompt": HINTED, "hint": HINT}
    change_bundle(tmp_path / "bundle", extract=extract, think={"thoughts": thoughts})
    found = longest(tmp_path / "bundle", SPEED)
    assert found is not None
    seconds = [found.hint_s, found.extract_s, found.think_s, found.answer_s]
    assert seconds == pytest.approx([6 / 2, 24 / 2, thought / 2, 8 / 2], rel=1e-6)
    assert found.seconds == pytest.approx((6 + 24 + thought + 8) / 2, rel=1e-6)


def test_the_second_stage_goes_at_the_pace_of_the_reasoner(tiny_pair: Path) -> None:
    one = longest(tiny_pair, SPEED, reasoner_speed=SPEED)
    two = longest(tiny_pair, SPEED, reasoner_speed=SLOW)
    assert one is not None
    assert two is not None
    assert two.extract_s == one.extract_s
    assert two.think_s == pytest.approx(10 * one.think_s, rel=1e-6)
    assert two.answer_s == pytest.approx(10 * one.answer_s, rel=1e-6)


def test_a_larger_picture_makes_reading_and_writing_slower(tiny_bundle: Path) -> None:
    for speed in (SPEED, READER):
        small, large = longest(tiny_bundle, speed, 16), longest(tiny_bundle, speed, 64)
        assert small is not None
        assert large is not None
        assert large.extract_s > small.extract_s
        assert large.think_s > small.think_s


def test_a_picture_that_is_not_known_fills_the_context(tiny_bundle: Path) -> None:
    unknown, known = longest(tiny_bundle, SPEED, None), longest(tiny_bundle, SPEED, 16)
    assert unknown is not None
    assert known is not None
    assert unknown.extract_s > known.extract_s
