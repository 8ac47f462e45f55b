"""Training samples: several questions packed behind one image.

Goes in: the objects of a scene. Comes out: one token sequence in which every question is a branch
of its own: it sees the image and itself, and no other question. So the image is evaluated once,
and no question can be answered by reading another's answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from edge_et.tuning import recipe
from edge_et.tuning.questions.example import Example

IGNORED = -100

Turns = tuple[tuple[str, bool], ...]
"""Pieces of text behind the image, each with whether the model is taught to write it."""

_USER = recipe.TURN_START.format(role="user")
_ASSISTANT = recipe.TURN_START.format(role="assistant")


@dataclass(frozen=True, slots=True, eq=False)
class PackedSample:
    """One image with its questions, T tokens in all.

    Attributes:
        token_ids: int64 [T]; 0 where image tokens go.
        targets: int64 [T]; the token that should follow, `IGNORED` where none is taught.
        positions: int64 [T]; every branch counts on from the image.
        branches: int64 [T]; 0 for what all branches see, then 1, 2, ...
        image_start: Where the `recipe.IMAGE_TOKENS` image tokens begin.
    """

    token_ids: np.ndarray
    targets: np.ndarray
    positions: np.ndarray
    branches: np.ndarray
    image_start: int


def pack(conversations: Sequence[Turns], tokenizer: Tokenizer) -> PackedSample:
    """Packs conversations behind one image.

    Args:
        conversations: From `two_stage`, `extraction_only`, `captioned` and the like; a branch
            each.
        tokenizer: The LLM's.
    """
    head = tokenizer.encode(_USER).ids
    shared = len(head) + recipe.IMAGE_TOKENS
    ids, targets = head + [0] * recipe.IMAGE_TOKENS, [IGNORED] * shared
    positions, branches = list(range(shared)), [0] * shared
    for number, turns in enumerate(conversations, 1):
        branch_ids, taught = _tokenize(turns, tokenizer)
        following = [*branch_ids[1:], IGNORED]
        follows_taught = [*taught[1:], False]
        ids += branch_ids
        targets += [
            t if keep else IGNORED for t, keep in zip(following, follows_taught, strict=True)
        ]
        positions += range(shared, shared + len(branch_ids))
        branches += [number] * len(branch_ids)
    return PackedSample(
        np.array(ids), np.array(targets), np.array(positions), np.array(branches), len(head)
    )


def two_stage(example: Example) -> Turns:
    """Returns extraction, reasoning and answer, all of them taught."""
    return (*extraction_only(example), *_thinking(example))


def captioned(caption: str) -> Turns:
    """Returns a description of the picture that no question has asked for."""
    prompt = recipe.CAPTION_PROMPT.format(image="")
    return (
        (prompt + recipe.TURN_END + _ASSISTANT, False),
        (caption, True),
        (recipe.TURN_END, True),
    )


def captioned_two_stage(caption: str, example: Example) -> Turns:
    """Returns such a description, then reasoning and answer."""
    return (*captioned(caption), *_thinking(example))


def extraction_only(example: Example) -> Turns:
    """Returns stage 1 alone."""
    prompt = recipe.EXTRACT_PROMPT.format(image="", question=example.question)
    return (
        (prompt + recipe.TURN_END + _ASSISTANT, False),
        (example.extraction, True),
        (recipe.TURN_END, True),
    )


def direct(example: Example) -> Turns:
    """Returns the answer without extraction."""
    prompt = recipe.DIRECT_PROMPT.format(image="", question=example.question)
    return (
        (prompt + recipe.TURN_END + _ASSISTANT, False),
        (example.answer, True),
        (recipe.TURN_END, True),
    )


def _thinking(example: Example) -> Turns:
    think = recipe.THINK_PROMPT.format(question=example.question)
    thought = f"{example.reasoning}\n{recipe.ANSWER_MARKER} {example.answer}"
    return (
        (_USER + think + recipe.TURN_END + _ASSISTANT, False),
        (thought, True),
        (recipe.TURN_END, True),
    )


def attention_mask(branches: np.ndarray) -> np.ndarray:
    """Says which position sees which: its own branch and the shared start, never what follows.

    Args:
        branches: int64 [B, T]; -1 marks padding.

    Returns:
        bool [B, 1, T, T], True where the row may look at the column.
    """
    same = branches[:, :, None] == branches[:, None, :]
    shared = branches[:, None, :] == 0
    causal = np.tril(np.ones((branches.shape[1],) * 2, bool))
    return ((same | shared) & causal)[:, None]


def _tokenize(turns: Turns, tokenizer: Tokenizer) -> tuple[list[int], list[bool]]:
    """Tokenizes pieces apart, as they arrive at run time; tells which tokens are taught."""
    ids: list[int] = []
    taught: list[bool] = []
    for text, is_taught in turns:
        piece = tokenizer.encode(text).ids
        ids += piece
        taught += [is_taught] * len(piece)
    return ids, taught
