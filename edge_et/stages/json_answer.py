"""An answer as JSON: written behind the answer marker, held to a schema, whole in any case.

In: a schema, and what makes a value of the text. Out: an `AnswerForm`.
"""

from collections.abc import Callable, Generator
from typing import Any

from edge_et.errors import OptionError
from edge_et.generation import (
    BareWriter,
    Deadline,
    Generation,
    JsonGrammar,
    JsonWriter,
    LeadingWriter,
    Sampler,
    Schema,
    bare_value,
)
from edge_et.llm import Plain, Tokenizer
from edge_et.results import AnswerToken, Progress
from edge_et.stages.answer_forms import AnswerCost, FormedAnswer
from edge_et.stages.thinking import RESERVED_ANSWER_TOKENS

_SPARE_TOKENS = 64
"""That a budget of ours has beyond twice the tokens of a short text: two sentences, or a list."""


class JsonForm:
    """Writes JSON that a schema describes; see `AnswerForm`."""

    def __init__(self, schema: Schema, decode: Callable[[str], Any], *, has_budget: bool) -> None:
        """Compile a schema.

        Args:
            schema: from `prepare_schema`.
            decode: makes the value of a text that fits the schema.
            has_budget: whether the caller chose the budget. Otherwise it is the bundle's for free
                text, and raised if that is little for the schema.

        Raises:
            OptionError: the schema asks for what cannot be expressed.
            MissingExtraError: llguidance is not installed.
        """
        bare = bare_value(schema)
        self._kind = None if bare is None else bare[0]
        self._grammar = JsonGrammar(schema if bare is None else bare[1])
        self._decode = decode
        self._has_budget = has_budget
        self._least: dict[Tokenizer, int] = {}

    def check(self, tokenizer: Tokenizer, marker: str, budget: int) -> None:
        """Refuse a budget that is too small; see `AnswerForm.check`."""
        least = self._least_tokens(tokenizer)
        if self._budget(tokenizer, budget) < least:
            raise OptionError(
                "max_answer_tokens", budget, f"at least {least}, as many as the schema needs"
            )

    def cost(self, tokenizer: Tokenizer, marker: str, budget: int) -> AnswerCost:
        """Return what the text takes; see `AnswerForm.cost`."""
        tokens = self._budget(tokenizer, budget)
        return AnswerCost(positions=tokens, steps=min(tokens, RESERVED_ANSWER_TOKENS))

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
        """Write the text; see `AnswerForm.write`.

        What the schema leaves no choice about is not asked of the model. When the budget or the
        deadline comes, or the model repeats itself, the text is closed without a further step; a
        single value has one token at least.
        """
        tokenizer, stop_ids = generation.chat_model.tokenizer, generation.chat_model.stop_ids
        writer = self._writer(tokenizer, self._budget(tokenizer, budget))
        chosen = writer.sampler(sampler, stop_ids, special_ids)

        def is_out_of_time() -> bool:
            return writer.has_begun and deadline.passed()

        text = writer.opening
        if text:
            yield AnswerToken(text)
        generation.append(Plain(writer.shown))
        generation.stage, generation.finish_reason = "answer", "stop"
        if not writer.is_done and is_out_of_time():
            generation.finish_reason = "deadline"
        elif not writer.is_done:
            yield from generation.prefill()
            budget = writer.left
            for _ in generation.generate(chosen, budget, is_out_of_time):
                if piece := writer.take():
                    text += piece
                    yield AnswerToken(piece)
                if writer.is_done:
                    break
                yield generation.decode_progress(budget - writer.left, budget)
            if writer.is_cut:
                generation.finish_reason = "length"
        if piece := writer.finish():
            text += piece
            yield AnswerToken(piece)
        return FormedAnswer(text=text, value=self._decode(text))

    def _writer(self, tokenizer: Tokenizer, budget: int) -> JsonWriter:
        if self._kind is not None:
            return BareWriter(self._grammar, tokenizer, budget, self._kind)
        writer = JsonWriter(self._grammar, tokenizer, budget)
        if writer.leads_with_text:
            return LeadingWriter(self._grammar, tokenizer, budget)
        return writer

    def _least_tokens(self, tokenizer: Tokenizer) -> int:
        if tokenizer not in self._least:
            self._least[tokenizer] = self._writer(tokenizer, 0).least
        return self._least[tokenizer]

    def _budget(self, tokenizer: Tokenizer, budget: int) -> int:
        if self._has_budget:
            return budget
        return max(budget, 2 * self._least_tokens(tokenizer) + _SPARE_TOKENS)
