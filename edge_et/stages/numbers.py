"""Numbers: the answer is one number in digits, which the sampler writes token by token.

In: a generation that stands at the answer marker, a sampler. Out: the number. Of all tokens only
those are left to the sampler that keep the text the beginning of a number: a minus, digits, a
decimal point and digits. There are no thousands separators and no exponents.
"""

import re
from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from edge_et.errors import OptionError
from edge_et.generation import Deadline, Generation, Sampler
from edge_et.llm import TextStream, Tokenizer
from edge_et.results import AnswerToken, Progress
from edge_et.stages.answer_forms import AnswerCost, FormedAnswer

# 100 digits on each side: so the value is neither infinite nor longer than Python reads.
_BEGINNING = re.compile(rb"\s*(-?([0-9]{1,100}(\.[0-9]{0,100})?)?)?")
_NUMBER = re.compile(rb"\s*-?[0-9]{1,100}(\.[0-9]{1,100})?")
_ALPHABET = b"-.0123456789 \t\n\r"

RESERVED_NUMBER_TOKENS = 8
"""Tokens of a number that time is kept for; most are shorter."""


class NumberForm:
    """An `AnswerForm`: a number; its value is an int, or a float where it has a decimal point."""

    def check(self, tokenizer: Tokenizer, marker: str, budget: int) -> None:
        """Refuse a tokenizer without digits; see `AnswerForm.check`."""
        if not tokenizer.tokens_of(b"0123456789"):
            raise OptionError("kind", "number", "a bundle whose tokenizer has tokens of digits")

    def cost(self, tokenizer: Tokenizer, marker: str, budget: int) -> AnswerCost:
        """Return the budget, and time for a number of usual length."""
        return AnswerCost(positions=budget, steps=min(budget, RESERVED_NUMBER_TOKENS))

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
        """Write a number, ended by a stop token, the budget or the deadline.

        White space may come before it, as the first token. The last token within budget and time
        is one that makes a whole number of what is there. See `AnswerForm.write`.
        """
        generation.stage = "answer"
        yield from generation.prefill()
        tokenizer = generation.chat_model.tokenizer
        beginning = _Beginning(generation, budget, deadline)
        stream = TextStream(tokenizer)

        def choose(logits: NDArray[np.float32]) -> int:
            allowed = beginning.allowed()
            left = np.full_like(logits, -np.inf)
            left[allowed] = logits[allowed]
            return sampler(left)

        before = len(generation.tokens)
        for token in generation.generate(choose, budget, beginning.is_out_of_time):
            beginning.push(token)
            if piece := stream.push(token):
                yield AnswerToken(piece)
            yield generation.decode_progress(len(generation.tokens) - before, budget)
        text = beginning.text.decode().strip()
        return FormedAnswer(text=text, value=float(text) if "." in text else int(text))


class _Beginning:
    """What was written of a number, and what may come next.

    Attributes:
        text: what was written, ASCII.
    """

    def __init__(self, generation: Generation, budget: int, deadline: Deadline) -> None:
        self.text = b""
        self._pieces = generation.chat_model.tokenizer.tokens_of(_ALPHABET)
        self._stop_ids = sorted(generation.chat_model.stop_ids)
        self._left = budget
        self._deadline = deadline

    def push(self, token: int) -> None:
        """Take a token that was written."""
        self.text += self._pieces[token]
        self._left -= 1

    def is_out_of_time(self) -> bool:
        """Return whether the number, as it is, has to do."""
        return self._is_number(self.text) and self._deadline.passed()

    def allowed(self) -> list[int]:
        """Return the tokens that may come next; there are always some."""
        is_last = self._left == 1 or self._deadline.passed()
        accepts = self._is_number if is_last else self._is_beginning
        allowed = [
            token
            for token, piece in self._pieces.items()
            if not (self.text and piece[:1].isspace()) and accepts(self.text + piece)
        ]
        return allowed + self._stop_ids if self._is_number(self.text) else allowed

    @staticmethod
    def _is_number(text: bytes) -> bool:
        return _NUMBER.fullmatch(text) is not None

    @staticmethod
    def _is_beginning(text: bytes) -> bool:
        return _BEGINNING.fullmatch(text) is not None
