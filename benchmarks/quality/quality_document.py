"""The document of an evaluation: what `edge-et bench quality --json` prints, and tables show.

Modes are called `ways` in it, as they were when its format was made.
"""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from edge_et.benchmarks.document import Count, Machine, Seconds
from edge_et.benchmarks.quality.questions import BrokenQuestion

FORMAT: Final = "edge-et-bench-quality"
FORMAT_VERSION: Final = 1

Ratio = Annotated[float, Meta(ge=0, le=1)]


class Share(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How many answers were right."""

    right: Count
    share: Annotated[Ratio, Meta(description="Of the questions asked.")]
    interval: Annotated[tuple[float, float], Meta(description="95%, Wilson.")]


class Row(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Questions of one kind, or all of them."""

    kind: Annotated[str | None, Meta(description="null: all questions.")]
    asked: Count
    guessing: Annotated[Ratio, Meta(description="What the most frequent right answer would get.")]
    modes: Annotated[dict[str, Share], Meta(description="By mode of answering.")] = field(
        name="ways"
    )


class Difference(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much more often one mode is right than another, on the same questions."""

    mode: str = field(name="way")
    other: str
    kind: Annotated[str | None, Meta(description="null: all questions.")]
    gain: Annotated[float, Meta(ge=-1, le=1, description="Share of the mode less that of `other`.")]
    interval: Annotated[
        tuple[float, float], Meta(description="95%, bootstrap over questions, percentiles.")
    ]


class Cost(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the median question takes."""

    seconds: Annotated[Seconds, Meta(description="Median, of language models alone.")]
    tokens: Annotated[float, Meta(ge=0, description="Median number of tokens written.")]


class Half(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A bundle as perceiver or as reasoner."""

    model: str
    weight_bytes: Annotated[
        Count, Meta(description="Perceiver: tower, language model, adapter; reasoner: without it.")
    ]
    cost: Annotated[Cost, Meta(description="Of its stage alone.")]


class Pair(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A reasoner that thinks over what a perceiver wrote."""

    perceiver: str
    reasoner: str
    share: Share
    weight_bytes: Annotated[Count, Meta(description="Of both; a file that both use counts once.")]
    cost: Annotated[Cost, Meta(description="Of both stages.")]


class Effect(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the largest bundle of a half gains over the smallest, whatever the other half is."""

    smallest: str
    largest: str
    extra_bytes: Count
    gain: Annotated[float, Meta(ge=-1, le=1, description="Of the share of right answers.")]
    interval: Annotated[
        tuple[float, float], Meta(description="95%, bootstrap over questions, percentiles.")
    ]


class Grid(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Perception against reasoning."""

    asked: Count
    perceivers: tuple[Half, ...]
    reasoners: tuple[Half, ...]
    pairs: tuple[Pair, ...]
    perception: Annotated[Effect | None, Meta(description="null: one perceiver.")]
    reasoning: Annotated[Effect | None, Meta(description="null: one reasoner.")]
    advice: Annotated[str, Meta(description="Which half to spend memory on, if that is known.")]


class ShareBin(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Answers whose choice had a share in some range."""

    below: Annotated[Ratio, Meta(description="End of the range, which the end itself is not in.")]
    asked: Count
    share: Annotated[Ratio | None, Meta(description="Mean of the shares; null: there are none.")]
    right: Annotated[Ratio | None, Meta(description="How many were right; null likewise.")]


class LengthBias(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Wrong choices by length in characters, compared with the right one.

    What is picked without regard to length is as often longer as the wrong texts on offer are.
    """

    wrong: Count
    picked_longer: Annotated[Ratio, Meta(description="Of the wrong picks.")]
    picked_shorter: Annotated[Ratio, Meta(description="Of the wrong picks.")]
    offered_longer: Annotated[Ratio, Meta(description="Of the wrong texts, mean over these.")]
    offered_shorter: Annotated[Ratio, Meta(description="Of the wrong texts, mean over these.")]


class ChoiceFigures(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the shares of the mode `choices` are worth."""

    asked: Count
    bins: Annotated[tuple[ShareBin, ...], Meta(description="By the share of what was picked.")]
    calibration_error: Annotated[
        Ratio, Meta(description="Mean distance of share and right in a bin, by questions.")
    ]
    length_bias: Annotated[LengthBias | None, Meta(description="null: nothing was wrong.")]


class ModeComparison(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One bundle, several modes of answering."""

    model: str
    rows: tuple[Row, ...]
    overall: Row
    differences: Annotated[
        tuple[Difference, ...], Meta(description="The first mode against each other one.")
    ]
    costs: Annotated[dict[str, Cost], Meta(description="By mode of answering.")]
    choices: Annotated[
        ChoiceFigures | None, Meta(description="null: the mode `choices` was not asked for.")
    ] = None


class QualityDocument(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One evaluation."""

    format: Literal["edge-et-bench-quality"] = FORMAT
    format_version: Literal[1] = FORMAT_VERSION
    created: Annotated[str, Meta(description="UTC, ISO 8601.")]
    commit: Annotated[
        str | None, Meta(description="Of edge-et's checkout, '+' behind it if changed; null: none.")
    ]
    versions: Annotated[dict[str, str], Meta(description="Of Python and packages, by name.")]
    machine: Machine
    threads: Count
    arguments: Annotated[tuple[str, ...], Meta(description="Of the command line.")]
    questions: Annotated[str, Meta(description="The file, or what was drawn.")]
    broken: Annotated[tuple[BrokenQuestion, ...], Meta(description="Not asked.")]
    failed: Annotated[
        tuple[BrokenQuestion, ...],
        Meta(description="Counted as wrong: they do not fit into a model's context."),
    ]
    modes: Annotated[ModeComparison | None, Meta(description="null: the grid was asked for.")] = (
        field(default=None, name="ways")
    )
    grid: Annotated[Grid | None, Meta(description="null: it was not asked for.")] = None
