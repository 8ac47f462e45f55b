"""Who writes the descriptions: a model behind an endpoint, a local bundle, or the ground truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from PIL import Image

from edge_et.tuning.data.records import Instruction
from edge_et.tuning.data.statements import statement
from edge_et.tuning.questions.ask import caption

if TYPE_CHECKING:
    from edge_et.pipeline import ExtractThink
    from edge_et.tuning.data.endpoint import Endpoint

MAX_DESCRIPTION = 6000
"""Characters that a description may have."""

STATEMENTS_PROMPT = (
    "Each line holds a question about a picture and its answer. Turn each into one statement that "
    "is understood without the question. Keep every fact, add none. Write one statement a line and "
    "nothing else.\n\n{pairs}"
)
DESCRIPTION_PROMPT = (
    "Describe the fine details of this picture in a few plain sentences: objects, their number, "
    "colour, size and place, and what is written. The description must say all of the following, "
    "in its own flow, without mentioning that it was asked to:\n{statements}"
)


class RowError(Exception):
    """One row cannot be described; others can."""


class Describer(Protocol):
    """Writes what training teaches the model to extract.

    Attributes:
        name: For the records.
    """

    name: str

    def describe(self, picture: Image.Image, row: Instruction) -> tuple[tuple[str, ...], str]:
        """Returns the row's statements, and a description that holds them.

        Raises:
            RowError: This row cannot be described.
        """


class EndpointDescriber:
    """Asks a model behind an OpenAI-compatible endpoint.

    Args:
        endpoint: Where.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.name = endpoint.model

    def describe(self, picture: Image.Image, row: Instruction) -> tuple[tuple[str, ...], str]:
        """See `Describer`: one request for the statements, one for the description."""
        pairs = "\n".join(f"{_line(p.question)} -> {_line(p.answer)}" for p in row.pairs)
        told = self._endpoint.complete(STATEMENTS_PROMPT.format(pairs=pairs), None)
        statements = tuple(line.strip() for line in told.splitlines() if line.strip())
        if len(statements) != len(row.pairs):
            raise RowError(
                f"{self.name} made {len(statements)} statements of {len(row.pairs)} questions"
            )
        listed = "\n".join(f"- {line}" for line in statements)
        prompt = DESCRIPTION_PROMPT.format(statements=listed)
        return statements, _checked(self._endpoint.complete(prompt, picture), self.name)


class BundleDescriber:
    """Lets stage 1 of a bundle describe, and adds the statements, which it cannot know.

    Args:
        pipe: The bundle.
        name: For the records.
    """

    def __init__(self, pipe: ExtractThink, name: str) -> None:
        self._pipe = pipe
        self.name = name

    def describe(self, picture: Image.Image, row: Instruction) -> tuple[tuple[str, ...], str]:
        """See `Describer`."""
        statements = _by_rules(row)
        questions = " ".join(pair.question for pair in row.pairs)
        extraction = self._pipe.extract(self._pipe.encode_image(picture), questions)
        return statements, _checked(" ".join([extraction.text, *statements]), self.name)


class TruthDescriber:
    """Describes rendered scenes by their facts."""

    name = "ground truth"

    def describe(self, picture: Image.Image, row: Instruction) -> tuple[tuple[str, ...], str]:
        """See `Describer`.

        Raises:
            RowError: The row holds no facts.
        """
        if row.facts is None:
            raise RowError("the row has no facts; rows of scenes have")
        statements = _by_rules(row)
        return statements, " ".join([caption(row.facts), *statements])


def bundle_describer(pipe: ExtractThink) -> BundleDescriber:
    """Makes a describer of a loaded bundle."""
    manifest = pipe.manifest
    return BundleDescriber(pipe, f"{manifest.name} {manifest.version}")


def _by_rules(row: Instruction) -> tuple[str, ...]:
    return tuple(statement(pair.question, pair.answer) for pair in row.pairs)


def _checked(description: str, name: str) -> str:
    text = description.strip()
    if not text:
        raise RowError(f"{name} wrote nothing")
    if len(text) > MAX_DESCRIPTION:
        raise RowError(f"{name} wrote {len(text)} characters, at most {MAX_DESCRIPTION} are kept")
    return text


def _line(text: str) -> str:
    return " ".join(text.split())
