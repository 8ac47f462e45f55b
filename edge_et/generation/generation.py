"""One model at work: it reads a prompt, writes tokens, reads what is put in, and writes on.

In: a speaker, a prompt, budgets, and the two questions that may end or bend what is written: is it
late, and is a token refused? Out: ids as they are written, why they ended, and what it took. What
the ids mean, and what is asked for, is not known here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edge_et.bundle import ChatSpec
from edge_et.generation.deadline import Deadline, Pace
from edge_et.generation.prompt_lookup import Lookup
from edge_et.generation.repetition import LoopWatch
from edge_et.generation.sampling import Sampler, choose
from edge_et.llm import (
    Evaluator,
    Part,
    Segment,
    Tokenizer,
    TokenSegment,
    count_positions,
    to_segments,
)
from edge_et.results import CutReason, PhaseUsage

Late = Callable[[], bool]
"""Says whether there is no time for another step."""

_LEAST_MEASURED = 8
"""Positions from which on the time of reading says something about the pace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speaker:
    """Somebody to talk to: one model's tokenizer, cache and manners.

    Attributes:
        tokenizer: the model's tokenizer.
        context: a cache over the model's weights.
        chat: how turns are written.
        stop_ids: tokens that end what the model writes.
        pace: how fast the model is here; measured on the way.
        lookup: guesses what comes next; None: every token is evaluated alone.
    """

    tokenizer: Tokenizer
    context: Evaluator
    chat: ChatSpec
    stop_ids: frozenset[int]
    pace: Pace = field(default_factory=Pace)
    lookup: Lookup | None = None

    def forget(self) -> None:
        """Empty the cache, and forget all text."""
        self.context.clear()
        if self.lookup is not None:
            self.lookup.clear()


class Script:
    """What one model reads and writes in one stage.

    Attributes:
        speaker: who reads and writes.
        tokens: all that was written, as ids; stop tokens are not among them.
        held: positions of the script that the cache held after it was read last.
        cut: why the last writing ended; None: the model ended it, or the caller left.
    """

    def __init__(self, speaker: Speaker, prompt: tuple[Segment, ...], deadline: Deadline) -> None:
        """Begin with a prompt that is not read yet.

        Args:
            speaker: who reads and writes.
            prompt: at least one position.
            deadline: lends its clock.
        """
        self.speaker = speaker
        self.tokens: list[int] = []
        self.held = 0
        self.cut: CutReason | None = None
        self._clock = deadline.clock
        self._segments = prompt
        self._run: list[int] = []
        self._put: list[Part] = []
        self._evaluated = 0
        self._reused: int | None = None

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The prompt, and what was written and put in behind it."""
        segments = self._segments
        if self._run:
            segments = (*segments, TokenSegment(tuple(self._run), generated=True))
        return (*segments, *to_segments(self._put, self.speaker.tokenizer))

    @property
    def usage(self) -> PhaseUsage:
        """What it took so far, but for the time: see `edge_et.stages.extraction.timed`."""
        return PhaseUsage(
            evaluated_tokens=self._evaluated,
            reused_tokens=self._reused or 0,
            generated_tokens=len(self.tokens),
        )

    def put(self, *parts: Part) -> None:
        """Put text behind what was written; all that is put in before it is read is one run."""
        self._put += parts

    def read(self, late: Late | None = None) -> bool:
        """Evaluate everything that is not in the cache yet, so that there are logits to write from.

        Args:
            late: is asked between batches, of 256 positions at most; None: never is.

        Returns:
            Whether all of it was evaluated.
        """
        self._segments = self.segments
        self._run, self._put = [], []
        if self.speaker.lookup is not None:
            self.speaker.lookup.read(self._segments)
        wanted = count_positions(self._segments)
        start = self._clock()
        evaluated = 0
        for done in self.speaker.context.steps(self._segments):
            evaluated, self.held = done.evaluated, done.reused + done.evaluated
            if self._reused is None:
                self._reused = done.reused
            if late is not None and self.held < wanted and late():
                break
        self._evaluated += evaluated
        if evaluated >= _LEAST_MEASURED:
            self.speaker.pace.has_read(evaluated, self._clock() - start)
        return self.held == wanted

    def write(
        self,
        sampler: Sampler,
        budget: int,
        late: Late,
        refuses: Callable[[int], bool] | None = None,
    ) -> Iterator[int]:
        """Write tokens until one that stops, or until `cut` says why not.

        A token is evaluated when the next one is wanted, so the last one is not.

        Args:
            sampler: chooses the tokens.
            budget: most tokens to write; with 0 nothing is cut.
            late: is asked before each token.
            refuses: see `edge_et.generation.sampling.choose`.

        Yields:
            Ids, the stop token not among them.
        """
        context, lookup = self.speaker.context, self.speaker.lookup
        watch = LoopWatch()
        token: int | None = None
        self.cut = None
        for left in range(budget, 0, -1):
            if late():
                self.cut = "deadline"
                return
            start = self._clock()
            rows = 0 if token is None else self._append(token, left - 1)
            token = choose(sampler, context.logits, refuses)
            if rows == 1:
                self.speaker.pace.has_written(self._clock() - start)
            if lookup is not None:
                lookup.wrote(token)
            if token in self.speaker.stop_ids:
                return
            self._run.append(token)
            self.tokens.append(token)
            yield token
            if watch.push(token):
                self.cut = "repetition"
                return
        if budget:
            self.cut = "tokens"

    def _append(self, token: int, most_guesses: int) -> int:
        """Evaluate a token, with guesses where they may save steps; return how many rows it took.

        Nothing was evaluated if the token had been guessed before.
        """
        lookup = self.speaker.lookup
        if lookup is None:
            return self.speaker.context.append(token)
        start = self._clock()
        rows = self.speaker.context.append(token, lookup.guess(most_guesses))
        if rows:
            lookup.evaluated(rows, self._clock() - start)
        return rows
