"""Thousands of questions to one program: what they leave behind, and whether they stay right."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny.memory import resident_bytes

import edge_et
from edge_et.errors import EdgeETError
from edge_et.image import ImageTokens
from edge_et.results import Answer

IMAGES = [
    np.random.default_rng(seed).integers(0, 256, (40, 40 + seed, 3), np.uint8) for seed in range(12)
]
QUESTIONS = [f"How many things of kind {number} are there?" for number in range(9)]


class Soak:
    """A program that asks at random, and begins anew now and then."""

    def __init__(self, bundle: Path, cache_dir: Path, seed: int) -> None:
        self._bundle, self._cache_dir = bundle, cache_dir
        self._random = np.random.default_rng(seed)
        self._pipeline = self._load()
        self.asked = 0
        self.compared = 0

    def ask(self) -> None:
        """Ask one question in one of the ways that there are, and count it."""
        ways: list[Callable[[], object]] = [
            self._answer,
            self._answer,
            self._session,
            self._leave_stream,
            self._hurry,
            self._go_wrong,
        ]
        if self.asked % 250 == 249:
            self._pipeline.close()
            self._pipeline = self._load()
        elif self.asked % 50 == 49:
            self._compare_with_fresh()
        else:
            ways[self._random.integers(len(ways))]()
        self.asked += 1

    def close(self) -> None:
        self._pipeline.close()

    def _load(self, cache_dir: Path | None = None) -> edge_et.ExtractThink:
        return edge_et.load(
            self._bundle, threads=1, use_profile=False, cache_dir=cache_dir or self._cache_dir
        )

    def _image(self) -> np.ndarray:
        return IMAGES[self._random.integers(len(IMAGES))]

    def _question(self) -> str:
        return QUESTIONS[self._random.integers(len(QUESTIONS))]

    def _answer(self) -> None:
        options = {"max_thinking_tokens": 8} if self._random.random() < 0.5 else {}
        answer = self._pipeline.answer(self._image(), self._question(), **options)
        assert answer.text

    def _session(self) -> None:
        session = self._pipeline.session(self._image())
        for _ in range(2):
            assert session.answer(self._question(), temperature=0.7, seed=3).text

    def _leave_stream(self) -> None:
        stream = self._pipeline.stream(self._image(), self._question())
        for _ in zip(range(self._random.integers(1, 40)), stream, strict=False):
            pass
        if self._random.random() < 0.5:
            stream.close()

    def _hurry(self) -> None:
        assert self._pipeline.answer(self._image(), self._question(), deadline_s=0.01).text

    def _go_wrong(self) -> None:
        tokens = ImageTokens(np.full((4, 32), np.nan, np.float32), "not finite")
        wrong: list[Callable[[], object]] = [
            lambda: self._pipeline.answer(b"no picture", self._question()),
            lambda: self._pipeline.answer(self._image(), "word " * 5000),
            lambda: self._pipeline.answer(tokens, self._question()),
            lambda: self._pipeline.answer(self._image(), self._question(), temperature=-1),
        ]
        with pytest.raises(EdgeETError):
            wrong[self._random.integers(len(wrong))]()

    def _compare_with_fresh(self) -> None:
        image, question = self._image(), self._question()
        with contextlib.closing(self._load(self._cache_dir / "of nobody else")) as fresh:
            assert words(self._pipeline.answer(image, question)) == words(
                fresh.answer(image, question)
            )
        self.compared += 1


def words(answer: Answer) -> tuple[str, str, str]:
    return answer.extraction, answer.reasoning, answer.text


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="tells memory in another way")
@pytest.mark.parametrize("questions", [400, pytest.param(5000, marks=pytest.mark.slow)])
def test_questions_leave_no_memory_and_no_trace(
    tiny_pair: Path, tmp_path: Path, questions: int
) -> None:
    soak = Soak(tiny_pair, tmp_path, seed=7)
    while soak.asked < 200:
        soak.ask()
    before = resident_bytes()
    while soak.asked < questions:
        soak.ask()
    after = resident_bytes()
    soak.close()
    assert soak.compared >= questions // 50 - questions // 250 - 1
    assert after < before * 1.05
