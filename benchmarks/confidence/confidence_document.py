"""The document of an evaluation: what `edge-et bench confidence --json` prints, and tables show."""

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from edge_et.benchmarks.document import Count, Machine, Seconds

FORMAT: Final = "edge-et-bench-confidence"
FORMAT_VERSION: Final = 1

Ratio = Annotated[float, Meta(ge=0, le=1)]


class Estimate(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A figure of some questions."""

    value: Annotated[float | None, Meta(description="null: there is none of these questions.")]
    interval: Annotated[
        tuple[float, float] | None,
        Meta(description="95%, bootstrap over questions, percentiles; null likewise."),
    ]


class Signal(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How well a score tells two kinds of answers apart."""

    name: str
    auc: Annotated[Estimate, Meta(description="Over all questions.")]
    first: Annotated[Estimate, Meta(description="The same of the first ten of each exam.")]
    others: Annotated[Estimate, Meta(description="The same of all but these.")]


class Bin(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Answers whose scores lie in some range."""

    below: Annotated[Ratio, Meta(description="End of the range, which the end itself is not in.")]
    asked: Count
    score: Annotated[Ratio | None, Meta(description="Mean; null: there are none.")]
    right: Annotated[Ratio | None, Meta(description="How many were right; null likewise.")]
    interval: Annotated[
        tuple[float, float] | None, Meta(description="Of `right`: 95%, Wilson; null likewise.")
    ]


class Curve(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a score between 0 and 1 is worth as a probability, and for leaving answers out."""

    name: str
    bins: tuple[Bin, ...]
    calibration_error: Annotated[
        Estimate, Meta(description="Mean distance of score and right in a bin, by questions.")
    ]
    risks: Annotated[
        tuple[Ratio, ...],
        Meta(description="Share of wrong answers of the surest one, the two surest, and so on."),
    ]
    area: Annotated[Estimate, Meta(description="Under risk against coverage: mean of `risks`.")]


class Faults(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whose fault wrong answers are, by what stage 2 makes of the true extraction."""

    seeing: Annotated[Count, Meta(description="That would be right.")]
    thinking: Annotated[Count, Meta(description="That would be wrong, too.")]
    seeing_told: Annotated[Count, Meta(description="Of `seeing` those whose doubt is seeing.")]
    thinking_told: Annotated[Count, Meta(description="Of `thinking` those whose doubt it is.")]


class Cost(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the median question takes."""

    seconds: Annotated[Seconds, Meta(description="Of both stages, without the control.")]
    control_seconds: Annotated[Seconds, Meta(description="Of the control.")]
    control_positions: Annotated[float, Meta(ge=0, description="That it evaluates.")]


class Outcome(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the confidence of a bundle's answers is worth."""

    model: str
    asked: Count
    right: Count
    signals: Annotated[tuple[Signal, ...], Meta(description="Right answers from wrong ones.")]
    faults: Faults
    blame: Annotated[
        tuple[Signal, ...], Meta(description="Wrong answers by seeing from those by thinking.")
    ]
    curves: tuple[Curve, ...]
    cost: Cost


class ConfidenceDocument(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One evaluation."""

    format: Literal["edge-et-bench-confidence"] = FORMAT
    format_version: Literal[1] = FORMAT_VERSION
    created: Annotated[str, Meta(description="UTC, ISO 8601.")]
    commit: Annotated[
        str | None, Meta(description="Of edge-et's checkout, '+' behind it if changed; null: none.")
    ]
    versions: Annotated[dict[str, str], Meta(description="Of Python and packages, by name.")]
    machine: Machine
    threads: Count
    arguments: Annotated[tuple[str, ...], Meta(description="Of the command line.")]
    questions: Annotated[str, Meta(description="What was drawn.")]
    outcome: Outcome
