"""Conversations that teach: what the model is asked about a picture, and what it should write.

In: an example and the prompts of a model. Out: pieces of text in order, each with its use. How they
become tokens is not known here.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from edge_et.tuning.training.example import Example
from edge_et.tuning.training.prompt_format import PromptFormat

Turns: TypeAlias = tuple[tuple[str, Literal["asked", "taught", "recalled"]], ...]
"""Pieces of text behind the image. The model is asked, is taught to write, or recalls what it might
have written; what it recalls is not taught."""


def two_stage(example: Example, prompts: PromptFormat) -> Turns:
    """Return extraction, reasoning and answer, all of them taught."""
    return (*extraction_only(example, prompts), *_thinking(example, prompts))


def captioned(caption: str, prompts: PromptFormat) -> Turns:
    """Return a description of the picture that no question has asked for."""
    return _reply(prompts.caption_prompt.format(image=""), caption, prompts)


def captioned_two_stage(caption: str, example: Example, prompts: PromptFormat) -> Turns:
    """Return such a description, then reasoning and answer."""
    return (*captioned(caption, prompts), *_thinking(example, prompts))


def extraction_only(example: Example, prompts: PromptFormat) -> Turns:
    """Return stage 1 alone."""
    asked = prompts.extract_prompt.format(image="", question=example.question)
    return _reply(asked, example.extraction, prompts)


def practice(example: Example, prompts: PromptFormat) -> Turns:
    """Return reasoning and answer, taught, behind an extraction that is not taught."""
    asked, (extraction, _), (end, _) = extraction_only(example, prompts)
    return (asked, (extraction, "recalled"), (end, "recalled"), *_thinking(example, prompts))


def direct(example: Example, prompts: PromptFormat) -> Turns:
    """Return the answer without extraction."""
    asked = prompts.direct_prompt.format(image="", question=example.question)
    return _reply(asked, example.answer, prompts)


def _thinking(example: Example, prompts: PromptFormat) -> Turns:
    asked = prompts.start("user") + prompts.think_prompt.format(question=example.question)
    thought = f"{example.reasoning}\n{prompts.answer_marker} {example.answer}"
    return _reply(asked, thought, prompts)


def _reply(asked: str, taught: str, prompts: PromptFormat) -> Turns:
    return (
        (asked + prompts.turn_end + prompts.start("assistant"), "asked"),
        (taught, "taught"),
        (prompts.turn_end, "taught"),
    )
