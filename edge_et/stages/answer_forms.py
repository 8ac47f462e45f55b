"""Forms of an answer: what a program asks for instead of free text behind the answer marker.

In: a generation that stands at the answer marker, a budget, a deadline. Out: text as it is written,
and a `FormedAnswer` as the generator's return value. What was thought before is not known here.

A form is made from a caller's options before a model is known, and asked three things: whether it
can be written with a tokenizer (`check`), what that takes (`cost`), and to write it (`write`).
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from edge_et.generation import Deadline, Generation, Sampler
from edge_et.llm import Tokenizer
from edge_et.results import AnswerToken, Progress, TokenLogprob


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCost:
    """What an answer takes at most.

    Attributes:
        positions: of the cache, behind the answer marker.
        steps: tokens that are evaluated one by one, for which time is kept.
    """

    positions: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FormedAnswer:
    """An answer in a form.

    Attributes:
        text: the answer as text; never empty.
        value: the same for a program.
        shares: share of each choice, 0 to 1; empty where there are none.
        logprobs: as for `edge_et.Answer`; of free text alone.
    """

    text: str
    value: Any
    shares: Mapping[str, float] = field(default_factory=dict)
    logprobs: tuple[TokenLogprob, ...] = ()


class AnswerForm(Protocol):
    """Writes an answer in a form; free text is no form, see `write_answer`."""

    def check(self, tokenizer: Tokenizer, marker: str, budget: int) -> None:
        """Refuse what cannot be written.

        Args:
            tokenizer: of the model that will answer.
            marker: text that the answer follows; empty: the beginning of a turn.
            budget: most tokens of the answer, at least 1.

        Raises:
            OptionError: it cannot be written with this tokenizer, or within the budget.
        """

    def cost(self, tokenizer: Tokenizer, marker: str, budget: int) -> AnswerCost:
        """Return what the answer takes; nothing is refused here.

        Args:
            tokenizer: as for `check`.
            marker: as for `check`.
            budget: as for `check`.
        """

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
        """Read what is not read yet, and write the answer.

        Args:
            generation: ends with the marker, nothing behind it; its `finish_reason` and `tokens`
                are those of the answer, too, afterwards.
            sampler: chooses tokens, where any are chosen.
            budget: as for `check`.
            deadline: passed, the answer is finished in as few steps as the form allows.
            marker: as for `check`.
            special_ids: tokens that an answer cannot hold.

        Yields:
            Text as it is written, and progress before every step, so that the pipeline can let
            other calls go first or end this one.

        Returns:
            The answer.
        """
