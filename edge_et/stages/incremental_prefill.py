"""Incremental prefill: the reasoner reads the extraction while the perceiver still writes it.

In: the reasoner, what its prompt says before the extraction, and the extraction as it grows. Out: a
cache that holds the beginning of the prompt of stage 2, so that at the end of the extraction only
its last few tokens and what stands behind them are left to read.

It happens in one thread, in whole groups of eight tokens between two tokens of the perceiver: both
models use all cores already, a second thread would fight for them or leave some idle, and what is
evaluated together would depend on who was faster. So nothing is faster in sum, and reading eight
rows at a time costs some more than all at once; but the reasoner begins at once when the extraction
ends, and where a deadline cuts it, most of it was read.

Nothing relies on it: stage 2 compares its prompt with the cache as always. The cache holds the same
bits as with one prefill; `edge_et.llm.kv_positions` says why.
"""

from collections.abc import Generator

from edge_et.generation import ChatModel, Deadline, ShouldStop, prefill_progress
from edge_et.llm import (
    ROW_GROUP,
    Plain,
    count_positions,
    fill,
    to_segments,
)
from edge_et.results import Progress
from edge_et.stages.thinking import Thinking


class IncrementalPrefill:
    """Prefills what is known of stage 2's prompt.

    Attributes:
        evaluated: positions that went through the reasoner so far.
        text_before: stands before what is followed: of several pictures, those before this one.
    """

    def __init__(
        self, reasoner: ChatModel, thinking: Thinking, question: str, deadline: Deadline
    ) -> None:
        """Begin with nothing read.

        Args:
            reasoner: has a cache of its own.
            thinking: how stage 2 goes.
            question: the question.
            deadline: lends its clock.
        """
        head, placed, _ = thinking.template.partition("{extraction}")
        self.evaluated = 0
        self.text_before = ""
        self._reasoner = reasoner
        self._clock = deadline.clock
        self._has_place = bool(placed)
        self._parts = [
            *thinking.history.opening(reasoner.chat),
            *fill(head, {"question": question, "choices": thinking.choices}),
        ]
        # Tokens of the extraction to wait for until a group may be whole: no text is tokenized in
        # vain.
        self._missing = 1

    def follow(self, extraction: str, should_stop: ShouldStop) -> Generator[Progress, None, None]:
        """Read what became certain with a further token of the extraction.

        Args:
            extraction: its text so far.
            should_stop: is asked before each batch.

        Yields:
            Before each batch how far it is.
        """
        self._missing -= 1
        if self._missing > 0 or not self._has_place:
            return
        parts = [*self._parts, Plain(self.text_before + extraction.lstrip())]
        segments = to_segments(parts, self._reasoner.tokenizer, growing=True)
        wanted = count_positions(segments) // ROW_GROUP * ROW_GROUP
        steps = self._reasoner.kv_cache.prefill_growing(segments)
        evaluated = 0
        for done in prefill_progress(self._reasoner, steps, self._clock):
            evaluated = done.evaluated
            if should_stop():
                break
            held = done.reused + evaluated
            if held < wanted:
                yield Progress(stage="think", phase="prefill", done=held, total=wanted)
        self.evaluated += evaluated
        self._missing = ROW_GROUP - count_positions(segments) % ROW_GROUP
