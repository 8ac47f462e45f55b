from typing import Any

import pytest
from msgspec.structs import replace
from tiny.bundle import build_bundle
from tiny.thoughts import HINTED, THOUGHTS

from edge_et.bundle import DirectSpec, Manifest, Sampling
from edge_et.errors import OptionError
from edge_et.options import parse_options
from edge_et.pipeline import Request
from edge_et.pipeline.request import MAX_CHARACTERS, check_text
from edge_et.stages import Budget

EXTRACTS = Sampling(temperature=0.1, top_p=0.2, top_k=3, seed=4)
THINKS = Sampling(temperature=0.5, top_p=0.6, top_k=7, seed=8)
MARKED = Sampling(temperature=0.7, top_p=0.3, top_k=5, seed=9)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """A bundle whose defaults are all different, without hints and thoughts."""
    plain = build_bundle(tmp_path_factory.mktemp("bundle"))
    return replace(
        plain,
        extract=replace(plain.extract, sampling=EXTRACTS),
        think=replace(plain.think, sampling=THINKS),
    )


@pytest.fixture(scope="module")
def thoughtful(manifest: Manifest) -> Manifest:
    """The same with hints, and with thoughts that are asked for by default."""
    thoughts = replace(THOUGHTS, default=True, sampling=MARKED)
    return replace(
        manifest,
        extract=replace(manifest.extract, prompt=HINTED),
        think=replace(manifest.think, thoughts=thoughts),
    )


def request(manifest: Manifest, question: str = "Which?", **options: Any) -> Request:
    return Request.of(question, parse_options(options), manifest)


def test_the_bundle_says_what_the_caller_does_not(manifest: Manifest) -> None:
    plain = request(manifest)
    assert (plain.question, plain.hint) == ("Which?", None)
    assert plain.extraction_tokens == 24
    assert plain.extract_sampling == EXTRACTS
    assert plain.plain_sampling == plain.thinking.sampling == THINKS
    assert plain.thinking.budget == Budget(thinking=20, answer=8)
    assert not plain.thinking.marked
    assert plain.options == parse_options({})


def test_the_caller_goes_before_the_bundle(manifest: Manifest) -> None:
    asked = request(manifest, max_extraction_tokens=1, max_thinking_tokens=0, max_answer_tokens=3)
    assert asked.extraction_tokens == 1
    assert asked.thinking.budget == Budget(thinking=0, answer=3)


@pytest.mark.parametrize(
    "options", [{"temperature": 0.0}, {"top_p": 0.9}, {"seed": 0}, {"temperature": 2.0, "seed": 5}]
)
def test_sampling_is_changed_in_all_stages_and_only_where_it_was_asked_for(
    thoughtful: Manifest, options: dict[str, Any]
) -> None:
    asked = request(thoughtful, **options)
    assert asked.extract_sampling == replace(EXTRACTS, **options)
    assert asked.plain_sampling == replace(THINKS, **options)
    assert asked.thinking.sampling == replace(MARKED, **options)


def test_a_thought_has_budget_and_sampling_of_its_own(thoughtful: Manifest) -> None:
    marked, plain = request(thoughtful), request(thoughtful, thinking=False)
    assert (marked.thinking.marked, plain.thinking.marked) == (True, False)
    assert marked.thinking.budget == Budget(thinking=12, answer=8)
    assert plain.thinking.budget == Budget(thinking=20, answer=8)
    assert (marked.thinking.sampling, plain.thinking.sampling) == (MARKED, THINKS)
    assert marked.plain_sampling == THINKS


def test_a_thought_of_no_tokens_is_none(thoughtful: Manifest) -> None:
    asked = request(thoughtful, thinking=True, max_thinking_tokens=0)
    assert not asked.thinking.marked
    assert asked.thinking.sampling == THINKS


def test_the_baseline_has_a_budget_of_its_own(manifest: Manifest) -> None:
    direct = DirectSpec(prompt="{image}{question}", max_answer_tokens=5)
    assert request(manifest).direct_tokens(direct) == 5
    assert request(manifest, max_answer_tokens=2).direct_tokens(direct) == 2


def test_texts_lose_the_white_space_around_them(thoughtful: Manifest) -> None:
    asked = request(thoughtful, " \n Which  one? ", hint="\tthe ball ")
    assert (asked.question, asked.hint) == ("Which  one?", "the ball")


@pytest.mark.parametrize(
    "question",
    [
        *("", " \n\t", "\u3000", None, 5, b"Which?", "a \ud800 b"),
        pytest.param("x" * (MAX_CHARACTERS + 1), id="too long"),
    ],
)
def test_questions_that_are_none(manifest: Manifest, question: Any) -> None:
    with pytest.raises(OptionError) as caught:
        request(manifest, question)
    assert (caught.value.name, caught.value.value) == ("question", question)


@pytest.mark.parametrize("hint", [" ", "\udfff"])
def test_hints_that_are_none(thoughtful: Manifest, hint: str) -> None:
    with pytest.raises(OptionError) as caught:
        request(thoughtful, hint=hint)
    assert (caught.value.name, caught.value.value) == ("hint", hint)


def test_what_the_bundle_cannot_do_is_refused_by_name(manifest: Manifest) -> None:
    for name, value in (("hint", "the ball"), ("thinking", True)):
        with pytest.raises(OptionError) as caught:
            request(manifest, **{name: value})
        assert (caught.value.name, caught.value.value) == (name, value)
    assert not request(manifest, thinking=False).thinking.marked


def test_a_text_may_be_empty_where_it_is_no_question() -> None:
    assert check_text("extraction", " \n") == ""
    assert check_text("extraction", " a ") == "a"
    for wrong in (None, "\ud800"):
        with pytest.raises(OptionError, match="extraction"):
            check_text("extraction", wrong)
