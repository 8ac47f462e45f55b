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
from edge_et.tuning.questions import Example, ask, kinds_for
from edge_et.tuning.scenes import SceneObject

IGNORED = -100

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


def sample_examples(
    objects: Sequence[SceneObject], count: int, rng: np.random.Generator
) -> list[Example]:
    """Draws questions about one scene, of different kinds as far as there are any."""
    kinds = kinds_for(objects)
    order = [kinds[i] for i in rng.permutation(len(kinds))]
    drawn = (ask(objects, order[i % len(order)], rng) for i in range(count))
    return [example for example in drawn if example is not None]


def pack(
    two_stage: Sequence[Example], direct: Sequence[Example], tokenizer: Tokenizer
) -> PackedSample:
    """Packs examples behind one image.

    Args:
        two_stage: Taught as extraction, then reasoning and answer.
        direct: Taught as an answer without extraction.
        tokenizer: The LLM's.
    """
    head = tokenizer.encode(_USER).ids
    shared = len(head) + recipe.IMAGE_TOKENS
    ids, targets = head + [0] * recipe.IMAGE_TOKENS, [IGNORED] * shared
    positions, branches = list(range(shared)), [0] * shared
    conversations = [_two_stage_turns(e) for e in two_stage] + [_direct_turns(e) for e in direct]
    for number, turns in enumerate(conversations, 1):
        branch_ids, taught = _tokenize(turns, tokenizer)
        following = branch_ids[1:] + [IGNORED]
        follows_taught = taught[1:] + [False]
        ids += branch_ids
        targets += [t if keep else IGNORED for t, keep in zip(following, follows_taught)]
        positions += range(shared, shared + len(branch_ids))
        branches += [number] * len(branch_ids)
    return PackedSample(
        np.array(ids), np.array(targets), np.array(positions), np.array(branches), len(head)
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


def _two_stage_turns(example: Example) -> list[tuple[str, bool]]:
    extract = recipe.EXTRACT_PROMPT.format(image="", question=example.question)
    think = recipe.THINK_PROMPT.format(question=example.question)
    thought = f"{example.reasoning}\n{recipe.ANSWER_MARKER} {example.answer}"
    return [
        (extract + recipe.TURN_END + _ASSISTANT, False),
        (example.extraction, True),
        (recipe.TURN_END, True),
        (_USER + think + recipe.TURN_END + _ASSISTANT, False),
        (thought, True),
        (recipe.TURN_END, True),
    ]


def _direct_turns(example: Example) -> list[tuple[str, bool]]:
    prompt = recipe.DIRECT_PROMPT.format(image="", question=example.question)
    return [
        (prompt + recipe.TURN_END + _ASSISTANT, False),
        (example.answer, True),
        (recipe.TURN_END, True),
    ]


def _tokenize(
    turns: Sequence[tuple[str, bool]], tokenizer: Tokenizer
) -> tuple[list[int], list[bool]]:
    """Tokenizes pieces apart, as they arrive at run time; tells which tokens are taught."""
    ids: list[int] = []
    taught: list[bool] = []
    for text, is_taught in turns:
        piece = tokenizer.encode(text).ids
        ids += piece
        taught += [is_taught] * len(piece)
    return ids, taught
