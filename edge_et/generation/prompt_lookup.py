"""Prompt lookup decoding: drafts how a text goes on, from where the same tokens stood before.

In: what one model reads and writes, and what evaluating some tokens at once took. Out: draft
tokens, to be evaluated in one batch with the last one written. A draft decides nothing: every token
is chosen as ever, and what was evaluated behind a wrong draft token is dropped. Models and the
meaning of tokens are not known here.

On a CPU a batch of four rows takes as long as one row where memory is slow, and as long as two
where it is fast, so drafts are dear in some places and cheap in others. Both sides are learnt on
the way: how often a token is what stood there before, by how many tokens before it agree, from
every token written, drafted or not; what a batch takes from batches, each size of which is tried a
few times. Where it does not pay, nothing is drafted.

Source of the idea: github.com/apoorvumang/prompt-lookup-decoding.
"""

from collections import deque
from collections.abc import Iterable
from statistics import median

from edge_et.llm import Segment, TokenSegment

MAX_DRAFT_TOKENS = 15
"""Most tokens of a draft: with the token before them two groups of `ROW_GROUP` rows."""

_SIZES = (1, 3, 7)
"""Tokens of a draft that is shorter than the longest; few sizes are soon measured."""

_GRAMS = (3, 2, 1)
"""How many tokens are looked for, the longest first."""

_LONGEST_MATCH = 16
"""Agreeing tokens that make a difference."""

_REMEMBERED = 8192
"""Tokens that are remembered before the older half of them is forgotten."""

_BREAK = -1
"""Between two texts; no token."""

_LEAST_GAIN = 1.05
"""How much faster than single steps a draft has to be expected to be."""


class Passages:
    """Texts, and what came in them behind every one, two or three tokens the last time."""

    def __init__(self) -> None:
        """Begin with no text."""
        self._text: list[int] = []
        self._behind: dict[tuple[int, ...], int] = {}
        self._start = 0

    def begin(self, tokens: list[int]) -> None:
        """Begin a text, or go on with the last one if that is how it begins.

        Args:
            tokens: all that is known of it.
        """
        known = len(self._text) - self._start
        if tokens[:known] != self._text[self._start :]:
            kept = self._text[-_REMEMBERED // 2 :] if len(self._text) > _REMEMBERED else None
            if kept is not None:
                self._text, self._behind = [], {}
                self._push_all(kept)
            self.push(_BREAK)
            self._start, known = len(self._text), 0
        self._push_all(tokens[known:])

    def push(self, token: int) -> None:
        """Take the next token of the text."""
        for size in _GRAMS:
            self._behind[tuple(self._text[-size:])] = len(self._text)
        self._text.append(token)

    def match(self) -> tuple[int, int]:
        """Find the end of the text in what came before.

        Returns:
            The place behind the last tokens that agree, and how many agree: 0, none; never more
            than 16.
        """
        text = self._text
        for size in _GRAMS:
            place = self._behind.get(tuple(text[-size:]))
            if place is not None and text[-1] != _BREAK:
                most = min(place, _LONGEST_MATCH)
                while size < most and text[place - size - 1] == text[-size - 1] != _BREAK:
                    size += 1
                return place, size
        return 0, 0

    def at(self, place: int, most: int) -> list[int]:
        """Return the tokens at a place, up to the end of their text."""
        tokens = self._text[place : place + most]
        return tokens[: tokens.index(_BREAK)] if _BREAK in tokens else tokens

    def _push_all(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            self.push(token)


class Chances:
    """How often the next token was the one that stood behind the tokens that agree."""

    _PRIOR_WEIGHT = 4.0
    _MEMORY = 64.0
    """Tokens after which the earlier ones count half."""

    def __init__(self) -> None:
        """Begin with a prior: one agreeing token says little, many say a lot."""
        self._right = [0.0] * (_LONGEST_MATCH + 1)
        self._seen = [0.0] * (_LONGEST_MATCH + 1)

    def learn(self, agreeing: int, right: bool) -> None:
        """Take what came behind 1 to 16 tokens that agree."""
        if self._seen[agreeing] >= self._MEMORY:
            self._right[agreeing] /= 2
            self._seen[agreeing] /= 2
        self._right[agreeing] += right
        self._seen[agreeing] += 1

    def of(self, agreeing: int) -> float:
        """Return the probability that the next token agrees too.

        Args:
            agreeing: tokens that do, at least 1.
        """
        agreeing = min(agreeing, _LONGEST_MATCH)
        prior = self._PRIOR_WEIGHT * (1 - 0.6 / agreeing)
        return (self._right[agreeing] + prior) / (self._seen[agreeing] + self._PRIOR_WEIGHT)


class BatchTimes:
    """What batches take on this machine, in single steps."""

    _TRIES = 3
    """Batches of a size that are measured before its prior is given up."""

    _PRIOR_ROW = 0.25
    """What a further row takes, in single steps, before that was measured: too little for most."""

    def __init__(self) -> None:
        """Begin with nothing measured."""
        self._seconds: dict[int, deque[float]] = {}

    def learn(self, rows: int, seconds: float) -> None:
        """Take a measurement of a batch, at least one row."""
        self._seconds.setdefault(rows, deque(maxlen=9)).append(seconds)

    def of(self, rows: int) -> float:
        """Return what a batch takes; before a single step was measured, too much."""
        if 1 not in self._seconds:
            return float("inf")
        prior = 1 + self._PRIOR_ROW * (rows - 1)
        taken = self._seconds.get(rows, ())
        if not taken:
            return prior
        measured = median(taken) / max(median(self._seconds[1]), 1e-9)
        return measured if len(taken) >= self._TRIES else min(measured, prior)


class PromptLookup:
    """Drafts for one model."""

    def __init__(self, max_tokens: int = MAX_DRAFT_TOKENS) -> None:
        """Begin with nothing read.

        Args:
            max_tokens: of a draft, at least 1.
        """
        self._max_tokens = max_tokens
        self._chances, self._times = Chances(), BatchTimes()
        self.clear()

    def clear(self) -> None:
        """Forget all text; what was learnt about chances and times stays."""
        self._passages = Passages()
        self._match = (0, 0)

    def begin(self, segments: Iterable[Segment]) -> None:
        """Take what the model has read so far, from the start of the prompt."""
        tokens: list[int] = []
        for segment in segments:
            tokens += segment.ids if isinstance(segment, TokenSegment) else (_BREAK,)
        self._passages.begin(tokens)
        self._match = self._passages.match()

    def observe_token(self, token: int) -> None:
        """Take a token that the model wrote."""
        place, agreeing = self._match
        if agreeing:
            self._chances.learn(agreeing, self._passages.at(place, 1) == [token])
        self._passages.push(token)
        self._match = self._passages.match()

    def draft(self, most: int) -> list[int]:
        """Return the tokens that may come next; none where trying them is not expected to pay.

        Args:
            most: tokens that are wanted, 0 or more.
        """
        place, agreeing = self._match
        tokens = self._passages.at(place, min(most, self._max_tokens)) if agreeing else []
        best, best_rate = 0, _LEAST_GAIN
        chance = expected = 1.0
        for count in range(1, len(tokens) + 1):
            chance *= self._chances.of(agreeing + count - 1)
            expected += chance
            is_tried = count in _SIZES or count == self._max_tokens
            if is_tried and expected / self._times.of(1 + count) > best_rate:
                best, best_rate = count, expected / self._times.of(1 + count)
        return tokens[:best]

    def observe_batch(self, rows: int, seconds: float) -> None:
        """Take what a batch took.

        Args:
            rows: the token before the draft, and the draft.
            seconds: for evaluating them.
        """
        self._times.learn(rows, seconds)
