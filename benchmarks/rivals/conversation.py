"""The runtime's own prompts as text for rivals, with a place for the picture."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge_et.benchmarks.forced_decoding import draw_forced_tokens
from edge_et.benchmarks.subject import Job
from edge_et.benchmarks.synthetic.layouts import IMAGE_END, IMAGE_START
from edge_et.benchmarks.synthetic.mmproj import MMPROJ_NAME
from edge_et.bundle import Bundle, LanguageModelSpec
from edge_et.errors import BenchError
from edge_et.image import ImageTokens
from edge_et.llm import (
    Part,
    Plain,
    Tokenizer,
    Trusted,
    count_positions,
    end_turn,
    fill,
    system_turn,
    to_segments,
    user_turn,
)
from edge_et.options import AnswerOptions
from edge_et.pipeline import Request
from edge_et.stages import extraction_turns, fit_hint

_PICTURE = ImageTokens(np.empty((0, 0), np.float32), digest="")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A conversation up to where the model goes on writing, as text.

    Attributes:
        before: what stands before the picture; None: there is no picture.
        text: what stands behind it.
    """

    before: str | None
    text: str

    def with_picture(self, marker: str) -> str:
        """Return the whole text; a marker stands for the picture."""
        return self.text if self.before is None else self.before + marker + self.text


class Conversation:
    """The two turns of a bundle, without a hint and without a marked thought."""

    def __init__(self, bundle: Bundle) -> None:
        """Read what the bundle's manifest says."""
        self._manifest = bundle.manifest
        self.thinking_model: LanguageModelSpec = (
            bundle.manifest.reasoner or bundle.manifest.perceiver
        )
        self.goes_on = (
            bundle.manifest.reasoner is None and bundle.manifest.think.sees == "conversation"
        )
        """Whether stage 2 is a further turn behind stage 1."""

    def extract(self, question: str) -> Prompt:
        """Return the prompt of stage 1, without the tokens that llama.cpp puts in itself.

        Args:
            question: the question; it is the hint too.
        """
        chat, spec = self._manifest.perceiver.chat, self._manifest.extract
        parts = extraction_turns(chat, spec, question, fit_hint(spec, question), _PICTURE)
        place = parts.index(_PICTURE)
        before, behind = _text(parts[:place]), _text(parts[place + 1 :])
        return Prompt(before.removesuffix(IMAGE_START), behind.removeprefix(IMAGE_END))

    def think(self, question: str, extraction: str) -> Prompt:
        """Return the prompt of stage 2.

        Args:
            question: the question.
            extraction: what stage 1 wrote, as it was written.
        """
        thinking = replace(
            Request.of(question, AnswerOptions(), self._manifest).thinking, marked=False
        )
        chat = self.thinking_model.chat
        values = {"question": question, "extraction": extraction.strip()}
        turn = user_turn(chat, fill(thinking.template, values), thinking.opening)
        if not self.goes_on:
            return Prompt(None, _text([*system_turn(chat), *turn]))
        earlier = self.extract(question)
        return Prompt(earlier.before, earlier.text + extraction + _text([*end_turn(chat), *turn]))


def text_tokens(prompt: Prompt, tokenizer: Tokenizer) -> int:
    """Return how many tokens a prompt has besides those of the picture."""
    texts = [prompt.text] if prompt.before is None else [prompt.before, prompt.text]
    return sum(count_positions(to_segments([Trusted(text)], tokenizer)) for text in texts)


def find_mmproj(bundle: Bundle) -> Path:
    """Return the file that holds a bundle's tower for llama.cpp.

    Raises:
        BenchError: the bundle has none.
    """
    path = bundle.folder / MMPROJ_NAME
    if not path.is_file():
        raise BenchError(
            f"{bundle.manifest.name} has no {MMPROJ_NAME} in its folder: llama.cpp runs towers of "
            "such a file alone, and only synthetic bundles have one"
        )
    return path


def forced_tokens_by_stage(
    bundle: Bundle, tokenizer: Tokenizer, job: Job
) -> tuple[list[int], list[int]]:
    """Return the forced tokens of stage 1, and of stage 2; no answer marker is among them.

    Raises:
        BenchError: there are no words to write.
    """
    work = job.work
    count = work.extraction_tokens + work.thinking_tokens + work.answer_tokens
    tokens = draw_forced_tokens(tokenizer, bundle.manifest.think.answer_marker, count)
    return tokens[: work.extraction_tokens], tokens[work.extraction_tokens :]


def _text(parts: Iterable[Part]) -> str:
    return "".join(part.text for part in parts if isinstance(part, Trusted | Plain))
