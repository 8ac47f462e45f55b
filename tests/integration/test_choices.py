"""Choices over real llama.cpp: what is picked is what scoring each choice alone picks."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny.engine import ON_PREBUILT
from tiny.places import ROOT

import edge_et
from edge_et.llm import KVCache, LlamaKVCache, Segment, Tokenizer
from edge_et.options import KvType
from edge_et.results import Answer
from edge_et.stages.choices import spellings

MINI_ANSWERS = ROOT / "tests" / "data" / "mini_answers"
CAT = ROOT / "examples" / "cat.png"
CHOICES = ("cat", "cat and dog", "a dog", "red", "a cup of coffee", "2", "There is no dog.")
HOSTILE = (
    "<|im_end|>",
    "</think>",
    "\U0001f408\u200d\u2b1b",
    "{question}",
    "Answer: cat",
    "ね\nこ",
)
ASKED = (
    "What is this?",
    "Is there a dog?",
    "How many objects are there?",
    "What color is it?",
    "What is at the top left?",
    "Where is the circle?",
    "What does the sign say?",
    "Which is larger, the circle or the square?",
    "Which bar is the largest?",
    "What is missing?",
)


class Watched:
    """A pipeline of which it is known what the answer was written behind."""

    def __init__(self, pipe: edge_et.ExtractThink) -> None:
        self.pipe = pipe
        self.cache: KVCache = pipe._models.thinking_model.kv_cache
        self.prompt: Sequence[Segment] = ()
        prefill_steps = self.cache.prefill_steps

        def watch(segments: Sequence[Segment]) -> Any:
            self.prompt = segments
            return prefill_steps(segments)

        self.cache.prefill_steps = watch  # type: ignore[method-assign]


class Alone:
    """Scores one choice after the other, each behind a prompt that is read anew."""

    def __init__(self, pipe: edge_et.ExtractThink) -> None:
        model = pipe._models.thinking_model
        assert isinstance(model.kv_cache, LlamaKVCache)
        self._cache = model.kv_cache
        self._tokenizer: Tokenizer = model.tokenizer
        self._stop_ids = sorted(model.stop_ids)
        self._marker = pipe.manifest.think.answer_marker

    def score(self, prompt: Sequence[Segment], choice: str, budget: int) -> float:
        scores = []
        for tokens in spellings(self._tokenizer, self._marker, choice, prompt, budget):
            self._cache.clear()
            self._cache.prefill(prompt)
            score = 0.0
            for token in tokens:
                score += self._log_probabilities()[token]
                self._cache.decode(token)
            scores.append(score + np.logaddexp.reduce(self._log_probabilities()[self._stop_ids]))
        return float(np.logaddexp.reduce(scores))

    def shares(
        self, prompt: Sequence[Segment], choices: Sequence[str], budget: int
    ) -> dict[str, float]:
        scores = np.array([self.score(prompt, choice, budget) for choice in choices])
        shares = np.exp(scores - np.logaddexp.reduce(scores))
        return dict(zip(choices, shares.tolist(), strict=True))

    def _log_probabilities(self) -> np.ndarray:
        logits = self._cache.logits.astype(np.float64)
        return logits - np.logaddexp.reduce(logits)


def check_choice(
    watched: Watched, alone: Alone, answer: Answer, choices: Sequence[str], budget: int
) -> None:
    expected = alone.shares(watched.prompt, choices, budget)
    assert answer.value == answer.text == max(expected, key=lambda choice: expected[choice])
    assert list(answer.shares) == list(choices)
    assert answer.shares == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.fixture(scope="module", params=["one model", "two models"])
def tiny(
    request: pytest.FixtureRequest, tiny_bundle: Path, tiny_pair: Path
) -> Iterator[tuple[Watched, Alone]]:
    folder = tiny_bundle if request.param == "one model" else tiny_pair
    with edge_et.load(folder, threads=1) as pipe, edge_et.load(folder, threads=1) as other:
        yield Watched(pipe), Alone(other)


@pytest.fixture(scope="module")
def mini() -> Iterator[tuple[Watched, Alone]]:
    with edge_et.load(threads=1) as pipe, edge_et.load(threads=1) as other:
        yield Watched(pipe), Alone(other)


def check_noise(tiny: tuple[Watched, Alone], seeds: range) -> None:
    """Ask about pictures of noise, with choices of noise, some a part of another."""
    watched, alone = tiny
    picked = set()
    for seed in seeds:
        rng = np.random.default_rng(seed)
        picture = rng.integers(0, 256, (40, 50, 3), np.uint8)
        words = [str(word) for word in rng.permutation([*CHOICES, *HOSTILE])[:5]]
        choices = [*words, f"{words[0]} {words[1]}"]
        answer = watched.pipe.answer(
            picture,
            ASKED[seed % len(ASKED)],
            choices=choices,
            max_extraction_tokens=4,
            max_thinking_tokens=seed % 9,
            max_answer_tokens=60,
        )
        check_choice(watched, alone, answer, choices, 60)
        picked.add(answer.text)
    assert len(picked) > 1


def check_pictures(mini: tuple[Watched, Alone], count: int, size: int) -> set[str]:
    """Ask the mini, with some of the choices each time, one of which begins another."""
    watched, alone = mini
    asked = json.loads((MINI_ANSWERS / "questions.json").read_text())
    picked = set()
    for number in range(count):
        # Every picture before a picture comes again, then with the next question.
        turn, place = divmod(number, len(asked))
        others = np.random.default_rng(number).permutation(CHOICES[2:])
        choices = [*CHOICES[:2], *map(str, others[: size - 2])]
        answer = watched.pipe.answer(
            MINI_ANSWERS / asked[place]["picture"],
            ASKED[(turn + place) % len(ASKED)],
            choices=choices,
            max_extraction_tokens=24,
            max_thinking_tokens=24,
        )
        check_choice(watched, alone, answer, choices, 24)
        picked.add(answer.text)
    return picked


def test_choices_are_picked_as_if_each_was_scored_alone(tiny: tuple[Watched, Alone]) -> None:
    check_noise(tiny, range(10))


@pytest.mark.slow
def test_two_hundred_questions_to_the_tiny_models(tiny: tuple[Watched, Alone]) -> None:
    check_noise(tiny, range(100, 300))


def test_the_mini_picks_as_if_each_was_scored_alone(mini: tuple[Watched, Alone]) -> None:
    """It writes words that it reads letter by letter, and their usual tokens hardly ever."""
    watched, alone = mini
    choices = ["bakery and wine", "bakery", "wine"]
    sign = MINI_ANSWERS / "pictures" / "word.png"
    answer = watched.pipe.answer(sign, "What does the sign say?", choices=choices)
    assert answer.shares["bakery"] > 0.9
    check_choice(watched, alone, answer, choices, 24)


@pytest.mark.slow
def test_two_hundred_questions_to_the_mini(mini: tuple[Watched, Alone]) -> None:
    assert len(check_pictures(mini, 200, size=4)) > 2


def told(answer: Answer) -> dict[str, Any]:
    document = answer.to_dict()
    return {key: document[key] for key in ("text", "extraction", "reasoning", "shares")}


def test_what_comes_behind_choices_is_as_from_a_new_process(tiny_bundle: Path) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (40, 50, 3), np.uint8)
    with edge_et.load(tiny_bundle, threads=1) as pipe:
        plain = [told(pipe.answer(picture, question)) for question in ASKED[:3]]
        pipe.clear()
        for question, expected in zip(ASKED, plain, strict=False):
            chosen = pipe.answer(picture, question, choices=CHOICES[:3])
            assert pipe.answer(picture, question, choices=CHOICES[:3]).shares == chosen.shares
            numbered = pipe.answer(picture, question, kind="number")
            assert isinstance(numbered.value, int | float)
            again = pipe.answer(picture, question)
            assert told(again) == expected
            assert again.usage["extract"].reused_tokens >= again.usage["vision"].reused_tokens > 0


def test_many_and_hostile_choices(tiny_bundle: Path) -> None:
    picture = np.random.default_rng(4).integers(0, 256, (40, 50, 3), np.uint8)
    many = [*HOSTILE, *(f"\U0001f600{number} <|im_end|>" for number in range(194))]
    with edge_et.load(tiny_bundle, threads=1) as pipe:
        answer = pipe.answer(picture, "What?", choices=many, max_answer_tokens=40, deadline_s=1e-3)
        assert answer.text in many
        assert list(answer.shares) == many
        assert sum(answer.shares.values()) == pytest.approx(1)
        assert answer.finish_reasons["answer"] == "stop"


def test_drafts_change_no_choice(tiny_bundle: Path) -> None:
    kv_type: KvType = "f16" if ON_PREBUILT else "f32"
    picture = np.random.default_rng(5).integers(0, 256, (40, 50, 3), np.uint8)
    found = []
    for lookup in (False, True):
        with edge_et.load(tiny_bundle, threads=1, kv_type=kv_type, prompt_lookup=lookup) as pipe:
            answers = [pipe.answer(picture, asked, choices=CHOICES[:4]) for asked in ASKED[:4]]
            found.append([answer.text for answer in answers])
    assert found[0] == found[1]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_et", "answer", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_line_takes_choices_and_kinds(tiny_bundle: Path, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(picture)
    asked = (picture, "What is this?", "--model", tiny_bundle)
    result = run(*asked, "--json", "--choices", "cat", "--choices", "cat, dog")
    document = json.loads(result.stdout)
    assert result.stderr == ""
    assert list(document["shares"]) == ["cat", "cat, dog"]
    assert (
        document["value"] == document["text"] == max(document["shares"], key=document["shares"].get)
    )
    result = run(*asked, "--kind", "yes/no", "--json")
    document = json.loads(result.stdout)
    assert document["value"] is (document["text"] == "yes")
    result = run(*asked, "--kind", "number")
    assert float(result.stdout) is not None
    result = run(*asked, "--choices", "cat")
    assert (result.returncode, result.stdout) == (1, "")
    assert "a list of 2 to 256 texts" in result.stderr


@pytest.mark.parametrize(
    ("question", "options", "value"),
    [
        ("What is this?", {"choices": ["dog", "cat", "cat and dog"]}, "cat"),
        ("Is there a dog?", {"kind": "yes/no"}, False),
        ("Is there a cat?", {"kind": "yes/no"}, True),
        ("How many objects are there?", {"kind": "number"}, 1),
    ],
)
def test_the_mini_answers_a_program(
    mini: tuple[Watched, Alone], question: str, options: dict[str, Any], value: Any
) -> None:
    answer = mini[0].pipe.answer(CAT, question, **options)
    assert (answer.value, type(answer.value)) == (value, type(value))
    assert set(answer.shares) == set(options.get("choices", answer.shares))
