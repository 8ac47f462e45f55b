"""Who writes the descriptions: a model behind an endpoint, or a local bundle.

In: a picture and its questions with answers. Out: a `Description`. What a model wrote is text from
elsewhere and is checked before it is kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import msgspec
from PIL import Image

from edge_et.errors import PromptTooLongError
from edge_et.tuning.data.extraction_records import fault_in
from edge_et.tuning.data.instructions import Instruction
from edge_et.tuning.data.statements import holding, quoted, statement

if TYPE_CHECKING:
    from edge_et.pipeline import ExtractThink
    from edge_et.tuning.data.endpoint import Endpoint

STATEMENTS_PROMPT = """\
Below are questions about one picture, each with its answer. Rewrite every pair as one sentence \
that a reader understands who has seen neither the question nor the picture. Keep each name, \
number, colour and place; add nothing; leave nothing out.
Reply with a JSON list of {count} strings in the order of the pairs, and with nothing else.

{pairs}"""

DESCRIPTION_PROMPT = """\
Describe this picture in fine detail, in plain sentences and at most {words} words. Say what can \
be seen: things, how many of each, their colour, size and place, and print word by word. What \
follows is known to be true. Work all of it into the description, in detail:
{statements}
Do not guess, and mention neither these instructions nor where a fact comes from."""

DESCRIPTION_WORDS = 120
# About three times what the words take: a model that is told a number of words exceeds it.
DESCRIPTION_TOKENS = 500
STATEMENTS_TOKENS = 1000


class RowError(Exception):
    """One row cannot be described; others can."""


@dataclass(frozen=True, slots=True)
class Description:
    """What is known about a picture.

    Attributes:
        statements: what the row's pairs say, a sentence each, in their order.
        text: a description of the picture that says all of it.
    """

    statements: tuple[str, ...]
    text: str


class Describer(Protocol):
    """Writes what training teaches a perceiver to extract."""

    @property
    def name(self) -> str:
        """What the records say about where their text comes from."""

    def describe(self, picture: Image.Image, row: Instruction) -> Description:
        """Describe one picture.

        Raises:
            RowError: this row cannot be described.
            EdgeETError: no other row could be described either.
        """


class EndpointDescriber:
    """A model behind an OpenAI-compatible endpoint."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.name = endpoint.model

    def describe(self, picture: Image.Image, row: Instruction) -> Description:
        """Describe one picture; see `Describer`.

        The model is asked for statements only where rules make none, so that most rows of short
        questions cost one request.
        """
        statements = tuple(self._statements(row))
        listed = "\n".join(f"- {text}" for text in statements)
        prompt = DESCRIPTION_PROMPT.format(words=DESCRIPTION_WORDS, statements=listed)
        told = self._endpoint.complete(prompt, DESCRIPTION_TOKENS, picture)
        return checked_description(statements, told)

    def _statements(self, row: Instruction) -> list[str]:
        by_rule = [statement(pair.question, pair.answer) for pair in row.pairs]
        rest = [pair for pair, made in zip(row.pairs, by_rule, strict=True) if made is None]
        if not rest:
            return [made for made in by_rule if made is not None]
        pairs = "\n".join(
            f"{k}. {quoted(pair.question, pair.answer)}" for k, pair in enumerate(rest, 1)
        )
        prompt = STATEMENTS_PROMPT.format(count=len(rest), pairs=pairs)
        told = _string_list(self._endpoint.complete(prompt, STATEMENTS_TOKENS))
        if len(told) != len(rest) or any(map(fault_in, told)):
            told = [quoted(pair.question, pair.answer) for pair in rest]
        left = iter(told)
        return [next(left) if made is None else made for made in by_rule]


class BundleDescriber:
    """Stage 1 of a loaded bundle; the statements, which it cannot know, are put behind."""

    def __init__(self, pipe: ExtractThink) -> None:
        self._pipe = pipe
        self.name = f"{pipe.manifest.name} {pipe.manifest.version}"

    def describe(self, picture: Image.Image, row: Instruction) -> Description:
        """Describe one picture; see `Describer`."""
        image = self._pipe.encode_image(picture)
        try:
            told = [self._pipe.extract(image, pair.question).text for pair in row.pairs]
        except PromptTooLongError as err:
            raise RowError(str(err)) from err
        return checked_description(
            rule_statements(row), " ".join(filter(None, dict.fromkeys(told)))
        )


def rule_statements(row: Instruction) -> tuple[str, ...]:
    """Return what the pairs of a row say, by rules, or quoted where no rule applies."""
    return tuple(
        statement(pair.question, pair.answer) or quoted(pair.question, pair.answer)
        for pair in row.pairs
    )


def checked_description(statements: tuple[str, ...], told: str) -> Description:
    """Make sure that a description can be used, and that it says what it must.

    Raises:
        RowError: the text is empty, too long or holds control tokens.
    """
    if fault := fault_in(told):
        raise RowError(f"the description {fault}")
    text = holding(told, statements)
    if fault := fault_in(text):
        raise RowError(f"the description with its statements {fault}")
    return Description(statements, text)


def _string_list(reply: str) -> list[str]:
    """Read the JSON list in a model's reply; fences and remarks around it are passed over."""
    found = re.search(r"\[.*\]", reply, re.DOTALL)
    try:
        told = msgspec.json.decode(found.group() if found else reply, type=list[str])
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return []
    return [" ".join(text.split()) for text in told]
