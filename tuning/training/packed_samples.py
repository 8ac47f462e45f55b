"""Training samples: several questions packed behind one image.

In: conversations about one picture. Out: one sequence of tokens, in which each conversation is a
branch of its own: it sees the image and itself, and no other branch. So the image is evaluated
once, and no question can be answered by reading another's answer.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from edge_et.tuning.training.conversations import Turns
from edge_et.tuning.training.prompt_format import PromptFormat

IGNORED = -100
MAX_BRANCHES = 64
ROW_TOKENS = 640


@dataclass(frozen=True, slots=True, eq=False)
class PackedSample:
    """One image with its questions, T tokens in all.

    Attributes:
        token_ids: int64 [T]; 0 where image tokens go.
        targets: int64 [T]; the token that should follow, `IGNORED` where none is taught.
        positions: int64 [T]; every branch counts on from the image.
        branches: int64 [T]; 0 for what all branches see, then 1, 2, ...
        image_start: where the image tokens begin.
    """

    token_ids: np.ndarray
    targets: np.ndarray
    positions: np.ndarray
    branches: np.ndarray
    image_start: int


def pack(
    conversations: Sequence[Turns],
    tokenizer: Tokenizer,
    prompts: PromptFormat,
    spelled: Sequence[Collection[str]] | None = None,
) -> PackedSample:
    """Pack conversations behind one image.

    Args:
        conversations: a branch each; `two_stage`, `captioned` and the like make them.
        tokenizer: the LLM's.
        prompts: the LLM's.
        spelled: words that the model writes letter by letter in each conversation, a token each, as
            it sees them: copying letters is easy, and finding the tokens of a word that they make
            is not. None for none.
    """
    head = tokenizer.encode(prompts.start("user")).ids
    shared = len(head) + prompts.image_tokens
    ids, targets = head + [0] * prompts.image_tokens, [IGNORED] * shared
    positions, branches = list(range(shared)), [0] * shared
    words = spelled or [()] * len(conversations)
    for number, branch in enumerate(zip(conversations, words, strict=True), 1):
        branch_ids, taught = _tokenize(*branch, tokenizer)
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


def fill_rows(samples: Sequence[PackedSample]) -> list[list[int]]:
    """Share samples out to rows of a batch, so that little of it is padding.

    Args:
        samples: to share out.

    Returns:
        The numbers of the samples in each row. No row is longer than the longest sample, or than
        `ROW_TOKENS` where that is more.
    """
    lengths = [len(sample.token_ids) for sample in samples]
    room = max(ROW_TOKENS, *lengths)
    rows: list[tuple[int, list[int]]] = []
    for number in sorted(range(len(samples)), key=lambda n: -lengths[n]):
        for k, (used, members) in enumerate(rows):
            if used + lengths[number] <= room:
                rows[k] = (used + lengths[number], [*members, number])
                break
        else:
            rows.append((lengths[number], [number]))
    return [members for _, members in rows]


def join_row(samples: Sequence[PackedSample]) -> PackedSample:
    """Put samples behind each other; they stay blind to each other.

    Args:
        samples: the samples of one row.

    Returns:
        One sample. Branch b of the n-th sample is numbered `n * MAX_BRANCHES + b`; the image of the
        first one begins at `image_start`, and the others' as far behind the start of theirs.
    """
    return PackedSample(
        token_ids=np.concatenate([s.token_ids for s in samples]),
        targets=np.concatenate([s.targets for s in samples]),
        positions=np.concatenate([s.positions for s in samples]),
        branches=np.concatenate([s.branches + n * MAX_BRANCHES for n, s in enumerate(samples)]),
        image_start=samples[0].image_start,
    )


def attention_mask(branches: np.ndarray) -> np.ndarray:
    """Say which position sees which: its branch and its sample's start, never what follows.

    Args:
        branches: int64 [B, T], numbered as in `join_row`; -1 marks padding.

    Returns:
        bool [B, 1, T, T], True where the row may look at the column.
    """
    rows, columns = branches[:, :, None], branches[:, None, :]
    own_start = columns == rows // MAX_BRANCHES * MAX_BRANCHES
    causal = np.tril(np.ones((branches.shape[1],) * 2, bool))
    return (((rows == columns) | own_start) & causal)[:, None]


def _tokenize(
    turns: Turns, spelled: Collection[str], tokenizer: Tokenizer
) -> tuple[list[int], list[bool]]:
    """Tokenize pieces apart, as they arrive at run time; tell which tokens are taught."""
    ids: list[int] = []
    taught: list[bool] = []
    for text, use in turns:
        parts = [text] if use == "asked" else _letters_apart(text, spelled)
        piece = [number for part in parts for number in tokenizer.encode(part).ids]
        ids += piece
        taught += [use == "taught"] * len(piece)
    return ids, taught


def _letters_apart(text: str, spelled: Collection[str]) -> list[str]:
    """Cut a text around the letters of some words; a space before a word stays with its first."""
    if not spelled:
        return [text]
    found = re.compile(rf" ?\b(?:{'|'.join(map(re.escape, sorted(spelled)))})\b")
    parts, end = [], 0
    for match in found.finditer(text):
        word = match[0].strip()
        parts += [text[end : match.start()], match[0][: -len(word)] + word[0], *word[1:]]
        end = match.end()
    return [part for part in [*parts, text[end:]] if part]
