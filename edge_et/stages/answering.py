"""The answer itself: what a model writes behind everything else, and never nothing.

In: a generation that the answer goes behind, a budget, a deadline. Out: text as it is written, and
all of it as the generator's return value. What stands before it is not known here.
"""

from collections.abc import Generator
from dataclasses import dataclass

from edge_et.generation import Deadline, Generation, Sampler, StopTexts, token_logprob
from edge_et.llm import TextStream
from edge_et.results import AnswerToken, Progress, TokenLogprob
from edge_et.stages.answer_forms import FormedAnswer


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeText:
    """What a caller says of an answer in free text.

    Attributes:
        stop: texts before the first of which it ends; see `StopTexts`.
        top_logprobs: how many of the most probable tokens are told beside each of the answer's;
            None: nothing is told of any.
    """

    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None


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
) -> Generator[AnswerToken | Progress, None, FormedAnswer]:
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
        The answer; there is more than white space in its text.
    """
    generation.stage = "answer"
    yield from generation.prefill()
    kv_cache, tokenizer = generation.chat_model.kv_cache, generation.chat_model.tokenizer
    stream = stream or TextStream(tokenizer)
    stops = StopTexts(free.stop)
    beginning = _Beginning(generation, budget, deadline, special_ids)
    beginning.text = begun
    if text := stops.push(begun):
        yield AnswerToken(text)
    tokens: list[tuple[int, TokenLogprob]] = []  # and where their text begins
    left = 0 if stops.found else budget
    for token in generation.generate(sampler, left, beginning.is_out_of_time, beginning.refuses):
        beginning.written += 1
        if free.top_logprobs is not None:
            told_of = token_logprob(kv_cache.logits, token, free.top_logprobs, tokenizer)
            tokens.append((len(beginning.text), told_of))
        piece = stream.push(token)
        beginning.text += piece
        if told := stops.push(piece):
            text += told
            yield AnswerToken(told)
        if stops.found:
            break
        yield generation.decode_progress(beginning.written, budget)
    if not stops.found and (told := stops.finish(stream.finish())):
        text += told
        yield AnswerToken(told)
    logprobs = tuple(told_of for begin, told_of in tokens if begin < len(text))
    return FormedAnswer(text=text.strip(), value=None, logprobs=logprobs)


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
