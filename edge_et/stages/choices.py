"""Choices: the answer is one of some texts, chosen by how probable the model finds each as a whole.

In: a generation that stands at the answer marker. Out: the choice, and the share of each. Nothing
is sampled, and no choice is a guess from its first token: what is compared is the probability that
the model writes just this choice and then ends, token by token, from its own logits. One choice may
be the beginning of another.

Choices are tokenized as they follow the marker. A model may spell a word otherwise: the mini writes
words that it reads letter by letter, and finds their usual tokens improbable. So a choice that the
model wrote before, in its extraction or its reasoning, is scored in the tokens that it used there
too, and the probabilities are added.

Where the prompt told the choices with letters, the letters take the place of the choices: they are
what is compared, and the answer is the choice whose letter is the most probable.

All these tokens make a tree, of which every node is evaluated once: as a single row, as when the
model writes, so that a choice gets the same bits alone or among others.
"""

import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_et.bundle import ChoicesSpec
from edge_et.errors import DecodeError, OptionError
from edge_et.generation import Deadline, Generation, Sampler
from edge_et.llm import Segment, Tokenizer, TokenSegment
from edge_et.results import AnswerToken, Progress
from edge_et.stages.answer_forms import AnswerCost, FormedAnswer


@dataclass(frozen=True, slots=True)
class ChoiceForm:
    """An `AnswerForm`: one of some texts.

    The deadline ends nothing here: time is kept for the whole tree, which is small, before the
    answer begins.

    Attributes:
        values: what each choice, a text that is not blank, stands for; at least two.
        by_letter: whether the model writes letters, which `tell_choices` gave the choices.
    """

    values: Mapping[str, Any]
    by_letter: bool = False

    def check(self, tokenizer: Tokenizer, marker: str, budget: int) -> None:
        """Refuse choices that are too long, or the same to the model; see `AnswerForm.check`."""
        found: dict[object, str] = {}
        for choice, written in self._written().items():
            tokens = choice_tokens(tokenizer, marker, written)
            if len(tokens) > budget:
                expected = (
                    f"at most {budget} tokens (max_answer_tokens) a choice, not {len(tokens)}"
                )
                raise OptionError("choices", choice, expected)
            if not tokens:
                raise OptionError("choices", choice, "texts that the tokenizer has tokens for")
            told = choice.strip() if self.by_letter else tokens
            if told in found:
                both = (found[told], choice)
                raise OptionError("choices", both, "texts that differ, white space around aside")
            found[told] = choice

    def cost(self, tokenizer: Tokenizer, marker: str, budget: int) -> AnswerCost:
        """Return room for the longest choice byte by byte, and time for all and one of those."""
        written = self._written().values()
        spelled = [choice_tokens(tokenizer, marker, text) for text in written]
        longest = max(len(_behind(marker, text).encode()) for text in written)
        positions = max(min(budget, longest), *map(len, spelled))
        size = _grow([tokens] for tokens in spelled).size
        return AnswerCost(positions=positions, steps=size + positions)

    def write(
        self,
        generation: Generation,
        sampler: Sampler,
        budget: int,
        deadline: Deadline,
        *,
        marker: str,
        special_ids: frozenset[int],
    ) -> Generator[AnswerToken | Progress, None, FormedAnswer]:
        """Score all choices and take the most probable one; of equals the first.

        See `AnswerForm.write`.

        Raises:
            DecodeError: llama.cpp failed; or the logits give no choice any probability.
        """
        generation.stage = "answer"
        yield from generation.prefill()
        choices, written = list(self.values), self._written()
        tokenizer = generation.chat_model.tokenizer
        tree = _grow(
            spellings(tokenizer, marker, text, generation.segments, budget)
            for text in written.values()
        )
        scores = np.full(len(choices), -np.inf)
        yield from _score(generation, tree, scores, deadline)
        best = int(np.argmax(scores))
        if scores[best] == -np.inf:
            raise DecodeError("the logits give no choice any probability")
        weights = np.exp(scores - scores[best])
        shares = (weights / weights.sum()).tolist()
        chosen = choices[best]
        generation.tokens += choice_tokens(tokenizer, marker, written[chosen])
        generation.finish_reason = "stop"
        yield AnswerToken(chosen)
        return FormedAnswer(
            text=chosen,
            value=self.values[chosen],
            shares=dict(zip(choices, shares, strict=True)),
        )

    def _written(self) -> dict[str, str]:
        """Return what the model writes for each choice."""
        if self.by_letter:
            return {choice: choice_letter(number) for number, choice in enumerate(self.values)}
        return {choice: choice for choice in self.values}


def choice_letter(number: int) -> str:
    """Return what a choice is called: A to Z, then AA, AB and so on.

    Args:
        number: of the choice, counted from 0.
    """
    before, letter = divmod(number, len(ascii_uppercase))
    return (choice_letter(before - 1) if before else "") + ascii_uppercase[letter]


def tell_choices(spec: ChoicesSpec, choices: Iterable[str]) -> str:
    """Return the text that tells choices with their letters.

    Args:
        spec: how it is made.
        choices: white space around each is left out.
    """
    head, _, tail = spec.item.partition("{choice}")
    items = []
    for number, choice in enumerate(choices):
        before, behind = (part.replace("{letter}", choice_letter(number)) for part in (head, tail))
        items.append(before + choice.strip() + behind)
    return spec.separator.join(items)


def choice_tokens(tokenizer: Tokenizer, marker: str, choice: str) -> tuple[int, ...]:
    """Return the tokens of a choice as it follows the marker.

    Args:
        tokenizer: of the model that will answer.
        marker: text before the answer, or nothing.
        choice: white space around it is left out.
    """
    text = _behind(marker, choice)
    before = tokenizer.encode(marker)
    both = tokenizer.encode(marker + text)
    if both[: len(before)] == before:
        return tuple(both[len(before) :])
    return tuple(tokenizer.encode(text))


def spellings(
    tokenizer: Tokenizer, marker: str, choice: str, segments: Iterable[Segment], budget: int
) -> list[tuple[int, ...]]:
    """Return the tokens in which a choice is scored: its own, and those that the model used.

    Args:
        tokenizer: as for `choice_tokens`.
        marker: as for `choice_tokens`.
        choice: as for `choice_tokens`.
        segments: what stands before the answer; looked at is what the model wrote.
        budget: most tokens.
    """
    text = _behind(marker, choice).encode()
    found = {choice_tokens(tokenizer, marker, choice): None}
    for segment in segments:
        if not isinstance(segment, TokenSegment) or not segment.generated:
            continue
        pieces = [tokenizer.token_bytes(token) for token in segment.ids]
        ends = [0, *itertools.accumulate(map(len, pieces))]
        written = b"".join(pieces)
        place = written.find(text)
        while place >= 0:
            first, last = bisect_right(ends, place) - 1, bisect_left(ends, place + len(text))
            tokens = segment.ids[first:last]
            fits = ends[first] == place and ends[last] == place + len(text)
            if fits and len(tokens) <= budget and not any(map(tokenizer.is_added, tokens)):
                found[tokens] = None
            place = written.find(text, place + 1)
    return list(found)


def _behind(marker: str, choice: str) -> str:
    """Return the text of a choice as it follows the marker."""
    return (" " if marker and not marker[-1].isspace() else "") + choice.strip()


@dataclass(slots=True)
class _Node:
    """A token of the tree; the root has none.

    Attributes:
        token: the id.
        depth: tokens up to here.
        choice: number of the choice that ends here; None: none does.
        children: what may follow, by token.
    """

    token: int = -1
    depth: int = 0
    choice: int | None = None
    children: dict[int, "_Node"] = field(default_factory=dict)


@dataclass(slots=True)
class _Tree:
    """The tokens of all choices.

    Attributes:
        root: before the first token.
        size: nodes, the root not counted.
    """

    root: _Node
    size: int = 0


def _grow(choices: Iterable[Iterable[tuple[int, ...]]]) -> _Tree:
    """Make a tree of the spellings of each choice."""
    tree = _Tree(_Node())
    for number, spelled in enumerate(choices):
        for tokens in spelled:
            node = tree.root
            for token in tokens:
                if token not in node.children:
                    node.children[token] = _Node(token, node.depth + 1)
                    tree.size += 1
                node = node.children[token]
            node.choice = number
    return tree


def _score(
    generation: Generation, tree: _Tree, scores: NDArray[np.float64], deadline: Deadline
) -> Generator[Progress, None, None]:
    """Evaluate every node once, depth first, and leave the cache as it was.

    Args:
        generation: was just read, and has logits behind its last position.
        tree: what to evaluate.
        scores: float64 [choices] minus infinity, to be filled with the log-probability of each
            choice and of the end behind it, all spellings together.
        deadline: lends its clock.

    Yields:
        Progress before every node.
    """
    chat_model, base = generation.chat_model, generation.held
    kv_cache = chat_model.kv_cache
    stop_ids = sorted(chat_model.stop_ids)
    stack = [(tree.root, 0.0)]
    done = 0
    while stack:
        node, score = stack.pop()
        if node.depth:
            yield generation.decode_progress(done, tree.size)
            done += 1
            start = deadline.clock()
            kv_cache.rewind(base + node.depth - 1)
            kv_cache.decode(node.token)
            chat_model.throughput.observe_decode(deadline.clock() - start)
        logits = kv_cache.logits.astype(np.float64)
        total = _log_sum(logits)
        if node.choice is not None:
            whole = score + (_log_sum(logits[stop_ids]) - total)
            scores[node.choice] = np.logaddexp(scores[node.choice], whole)
        stack += (
            (child, score + (float(logits[child.token]) - total))
            for child in reversed(node.children.values())
        )
    kv_cache.rewind(base)


def _log_sum(logits: NDArray[np.float64]) -> float:
    """Return the logarithm of the sum of exponentials."""
    largest = logits.max()
    if largest == -np.inf:
        return float("-inf")
    return float(largest + np.log(np.exp(logits - largest).sum()))
