"""The answer itself: what a model writes behind everything else, and never nothing.

In: a generation that the answer goes behind, a budget, a deadline. Out: text as it is written, and
all of it as the generator's return value. What stands before it is not known here.
"""

from collections.abc import Generator
from dataclasses import dataclass

from edge_et.generation import Deadline, Generation, Sampler, StopTexts
from edge_et.llm import TextStream
from edge_et.results import AnswerToken, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeText:
    """What a caller says of an answer in free text.

    Attributes:
        stop: texts before the first of which it ends; see `StopTexts`.
    """

    stop: tuple[str, ...] = ()


def write_answer(
    generation: Generation,
    sampler: Sampler,
    budget: int,
    deadline: Deadline,
    *,
    begun: str = "",
    stream: TextStream | None = None,
    special_ids: frozenset[int] = frozenset(),
    free: FreeText = FreeText(),
) -> Generator[AnswerToken | Progress, None, str]:
    """Read what is not read yet, and write the answer.

    Before the answer has text, a token that stops cannot be chosen, and one of white space only as
    the first. Where no time is left, or no other token, the one at hand has to be text by itself.

    Args:
        generation: what stands before the answer; its `finish_reason` tells afterwards whether the
            budget or the deadline ended it.
        sampler: chooses the tokens.
        budget: most tokens to write, at least 1.
        deadline: ends the answer once it has text.
        begun: text of the answer that was written already.
        stream: what goes on making text of tokens; None: nothing is held back in one.
        special_ids: tokens that an answer cannot hold.
        free: what the caller says of it.

    Yields:
        Text as it is written, and progress before every step. What may be the beginning of a stop
        text waits for what comes behind it.

    Returns:
        The text, not stripped; more than white space.
    """
    generation.stage = "answer"
    yield from generation.prefill()
    stream = stream or TextStream(generation.chat_model.tokenizer)
    stops = StopTexts(free.stop)
    beginning = _Beginning(generation, budget, deadline, special_ids)
    beginning.text = begun
    if text := stops.push(begun):
        yield AnswerToken(text)
    if stops.found:
        return text
    for token in generation.generate(sampler, budget, beginning.is_out_of_time, beginning.refuses):
        beginning.written += 1
        piece = stream.push(token)
        beginning.text += piece
        if told := stops.push(piece):
            text += told
            yield AnswerToken(told)
        if stops.found:
            return text
        yield generation.decode_progress(beginning.written, budget)
    if told := stops.finish(stream.finish()):
        text += told
        yield AnswerToken(told)
    return text


class _Beginning:
    """What may come while an answer has no text yet.

    Attributes:
        text: what was written so far.
        written: tokens written so far.
    """

    def __init__(
        self, generation: Generation, budget: int, deadline: Deadline, special_ids: frozenset[int]
    ) -> None:
        self.text = ""
        self.written = 0
        self._tokenizer = generation.chat_model.tokenizer
        self._stop_ids = generation.chat_model.stop_ids
        self._budget = budget
        self._deadline = deadline
        self._special_ids = special_ids

    def is_out_of_time(self) -> bool:
        """Return whether the answer, as it is, has to do."""
        return self._deadline.passed() and not self._is_blank()

    def refuses(self, token: int) -> bool:
        """Return whether a token may not come next."""
        if token in self._special_ids:
            return True
        if not self._is_blank():
            return False
        if token in self._stop_ids:
            return True
        if self.written + 1 == self._budget or self._deadline.passed():
            alone = self._tokenizer.decode([token])
            return not alone.strip() or "\N{REPLACEMENT CHARACTER}" in alone
        return self.written > 0 and not self._tokenizer.token_bytes(token).strip()

    def _is_blank(self) -> bool:
        return not self.text.strip()
