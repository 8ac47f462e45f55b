"""What a client of any protocol asks for: turns, pictures among them, and options.

In: what a protocol's body says, checked and decoded there. Out: the same for all protocols. HTTP
and the fields of a protocol are not known here.
"""

from dataclasses import dataclass
from typing import Any, Literal

from edge_et.options import AnswerKind, ConfidenceKind

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One message.

    Attributes:
        role: who says it; ``developer`` is ``system``.
        text: all of its text parts, joined by line breaks; may be empty beside pictures.
        pictures: files as bytes, in their order, not decoded yet.
    """

    role: Role
    text: str
    pictures: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A conversation whose last user's turns are to be answered.

    Attributes:
        model: name of a bundle; empty: the server's first one.
        turns: at least one, in their order; consecutive ones may have one role.
        max_tokens: most tokens of the answer; None: the bundle's budget.
        temperature: as for `edge_et.options.AnswerOptions`; None: the bundle's.
        top_p: likewise.
        seed: likewise.
        stop: texts before which the answer ends.
        schema: JSON schema of the answer; None: free text.
        choices: texts of which the answer is one; None: it may be another.
        kind: what a program can take the answer for; None: free text.
        extraction: what is reasoned over instead of pictures; None: there is none.
        thinking: whether a reasoner that marks its thoughts has any; None: the bundle's.
        shows_reasoning: whether extraction and reasoning are told.
        top_logprobs: how many tokens are told with their logarithms of probability, beside the
            chosen one; None: nothing is told of probabilities.
        confidence: as for `edge_et.options.AnswerOptions`.
        keep_alive_s: seconds that the bundle stays loaded after the last call; below 0: for ever;
            None: the server's default.
    """

    model: str
    turns: tuple[Turn, ...]
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: Any = None
    choices: tuple[str, ...] | None = None
    kind: AnswerKind | None = None
    extraction: str | None = None
    thinking: bool | None = False
    shows_reasoning: bool = True
    top_logprobs: int | None = None
    confidence: ConfidenceKind | None = None
    keep_alive_s: float | None = None
