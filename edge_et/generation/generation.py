"""Generation with one model: prefill a prompt, generate tokens, append text, generate on.

In: a chat model, a prompt, budgets, and the two questions that may end or bend what is written:
should it stop, and is a token refused? Out: ids as they are written, why they ended, and what it
took. Before every batch of a prompt, and between two tokens, the caller has the word. What the ids
mean, and what is asked for, is not known here.
"""

from collections.abc import Callable, Generator, Iterator
from typing import Literal

from edge_et.bundle import Sampling
from edge_et.generation.chat_model import ChatModel
from edge_et.generation.deadline import Clock, Deadline
from edge_et.generation.repetition import RepetitionDetector
from edge_et.generation.sampling import Sampler, choose, new_sampler
from edge_et.generation.watch import Watch
from edge_et.llm import (
    Part,
    PrefillProgress,
    Segment,
    TokenSegment,
    count_positions,
    to_segments,
)
from edge_et.results import FinishReason, PhaseUsage, Progress, Stage

ShouldStop = Callable[[], bool]
"""Says whether there is no time for another step."""

_LEAST_MEASURED = 8
"""Positions from which on the time of a prefill says something about the throughput."""


def prefill_progress(
    chat_model: ChatModel, steps: Iterator[PrefillProgress], clock: Clock
) -> Iterator[PrefillProgress]:
    """Pass a prefill on, and measure the throughput, but for the caller's time between steps.

    Args:
        chat_model: who reads.
        steps: from its KV cache.
        clock: tells the time.
    """
    seconds, evaluated = 0.0, 0
    try:
        while True:
            start = clock()
            done = next(steps, None)
            seconds += clock() - start
            if done is None:
                return
            evaluated = done.evaluated
            yield done
    finally:
        if evaluated >= _LEAST_MEASURED:
            chat_model.throughput.observe_prefill(evaluated, seconds)


class Generation:
    """What one model reads and writes in one stage.

    Attributes:
        chat_model: who reads and writes.
        stage: what is read for and written, as progress is told.
        tokens: all that was written, as ids; stop tokens are not among them.
        held: positions that the cache held after the last prefill.
        finish_reason: why the last `generate` ended; ``stop`` also before the first one, and where
            the caller left.
    """

    def __init__(
        self,
        chat_model: ChatModel,
        prompt: tuple[Segment, ...],
        deadline: Deadline,
        stage: Stage = "extract",
        watch: Watch | None = None,
    ) -> None:
        """Begin with a prompt that is not in the cache yet.

        Args:
            chat_model: who reads and writes.
            prompt: at least one position.
            deadline: lends its clock.
            stage: what is read for and written, as progress is told.
            watch: is told which token was taken, and in which stage; None: nobody is.
        """
        self.chat_model = chat_model
        self.stage = stage
        self.tokens: list[int] = []
        self.held = 0
        self.finish_reason: FinishReason = "stop"
        self._clock = deadline.clock
        self._watch = watch
        self._segments = prompt
        self._run: list[int] = []
        self._appended: list[Part] = []
        self._evaluated = 0
        self._reused: int | None = None

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The prompt, and what was written and appended behind it."""
        segments = self._segments
        if self._run:
            segments = (*segments, TokenSegment(tuple(self._run), generated=True))
        return (*segments, *to_segments(self._appended, self.chat_model.tokenizer))

    @property
    def usage(self) -> PhaseUsage:
        """What it took so far, but for the time: see `edge_et.stages.timed`."""
        return PhaseUsage(
            evaluated_tokens=self._evaluated,
            reused_tokens=self._reused or 0,
            generated_tokens=len(self.tokens),
        )

    def sampler(self, sampling: Sampling) -> Sampler:
        """Return what chooses tokens, watched if anybody watches."""
        sampler = new_sampler(sampling)
        return sampler if self._watch is None else self._watch.over(sampler)

    def append(self, *parts: Part) -> None:
        """Put text behind what was written; all that comes before the next prefill is one run."""
        self._appended += parts

    def take_back(self) -> int:
        """Take back the last token that `generate` gave, before anything else happens."""
        self._run.pop()
        return self.tokens.pop()

    def prefill(self, should_stop: ShouldStop | None = None) -> Generator[Progress, None, bool]:
        """Evaluate everything that is not in the cache yet, so that there are logits.

        Args:
            should_stop: is asked between batches, of 256 positions at most; None: never is.

        Yields:
            Before each batch how far it is.

        Returns:
            Whether all of it was evaluated.
        """
        self._segments = self.segments
        self._run, self._appended = [], []
        if self.chat_model.prompt_lookup is not None:
            self.chat_model.prompt_lookup.begin(self._segments)
        wanted = count_positions(self._segments)
        steps = prefill_progress(
            self.chat_model, self.chat_model.kv_cache.prefill_steps(self._segments), self._clock
        )
        evaluated = 0
        for done in steps:
            evaluated, self.held = done.evaluated, done.reused + done.evaluated
            if self._reused is None:
                self._reused = done.reused
            if self.held < wanted:
                if should_stop is not None and should_stop():
                    break
                yield self._progress("prefill", self.held, wanted)
        self._evaluated += evaluated
        return self.held == wanted

    def decode_progress(self, done: int, budget: int) -> Progress:
        """Return how far it is while it is being written; the caller yields it between two tokens.

        Args:
            done: tokens written of this part.
            budget: most tokens of it.
        """
        return self._progress("decode", done, budget)

    def generate(
        self,
        sampler: Sampler,
        budget: int,
        should_stop: ShouldStop,
        refuses: Callable[[int], bool] | None = None,
    ) -> Iterator[int]:
        """Write tokens until one that stops, or until `finish_reason` says why not.

        A token is decoded when the next one is wanted, so the last one is not.

        Args:
            sampler: chooses the tokens.
            budget: most tokens to write; with 0 nothing is cut.
            should_stop: is asked before each token.
            refuses: see `edge_et.generation.sampling.choose`.

        Yields:
            Ids, the stop token not among them.
        """
        kv_cache, lookup = self.chat_model.kv_cache, self.chat_model.prompt_lookup
        repetition = RepetitionDetector()
        token: int | None = None
        self.finish_reason = "stop"
        for left in range(budget, 0, -1):
            if should_stop():
                self.finish_reason = "deadline"
                return
            start = self._clock()
            rows = 0 if token is None else self._decode(token, left - 1)
            token = choose(sampler, kv_cache.logits, refuses)
            if self._watch is not None:
                self._watch.keep(self.stage)
            if rows == 1:
                self.chat_model.throughput.observe_decode(self._clock() - start)
            if lookup is not None:
                lookup.observe_token(token)
            if token in self.chat_model.stop_ids:
                return
            self._run.append(token)
            self.tokens.append(token)
            yield token
            if repetition.push(token):
                self.finish_reason = "repetition"
                return
        if budget:
            self.finish_reason = "length"

    def _progress(self, phase: Literal["prefill", "decode"], done: int, total: int) -> Progress:
        throughput = self.chat_model.throughput
        step_s = throughput.position_s if phase == "prefill" else throughput.token_s
        return Progress(
            stage=self.stage,
            phase=phase,
            done=done,
            total=total,
            seconds_left=step_s * (total - done) if step_s else None,
        )

    def _decode(self, token: int, max_draft_tokens: int) -> int:
        """Decode a token, with a draft where that may save steps; return how many rows it took.

        Nothing was evaluated if the token had been drafted before.
        """
        lookup = self.chat_model.prompt_lookup
        if lookup is None:
            return self.chat_model.kv_cache.decode(token)
        start = self._clock()
        rows = self.chat_model.kv_cache.decode(token, lookup.draft(max_draft_tokens))
        if rows:
            lookup.observe_batch(rows, self._clock() - start)
        return rows
