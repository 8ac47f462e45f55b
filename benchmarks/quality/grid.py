"""Perception against reasoning: every reasoner thinks over what every perceiver wrote.

In: bundles, questions, results. Out: the grid of the document, and a sentence of advice.
Source: the decoupled analysis of "Downscaling Intelligence" (arXiv 2511.17487), section 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_et.benchmarks.quality.accuracy import Gain, mean_gain
from edge_et.benchmarks.quality.asking import RETHINK, Answers, model_key
from edge_et.benchmarks.quality.modes import EXTRACTION, Reply
from edge_et.benchmarks.quality.outcome import cost_of, mark, share_of
from edge_et.benchmarks.quality.quality_document import Effect, Grid, Half, Pair
from edge_et.benchmarks.quality.questions import Question
from edge_et.bundle import Bundle, FileRef, LanguageModelSpec

_BYTES_COMPARED = 100e6
"""Gains are compared by what this much memory brings."""

_LEAST_QUESTIONS = 30
"""Of fewer, a bootstrap's interval is too narrow to rely on."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The files of a half: SHA-256 and bytes.

    Attributes:
        model: key of the bundle.
        files: bytes by SHA-256.
    """

    model: str
    files: dict[str, int]

    @property
    def weight_bytes(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())


def perceiver_weights(bundle: Bundle) -> Weights:
    """Return what seeing takes: tower, language model, adapter."""
    manifest = bundle.manifest
    return _weights(bundle, [*manifest.vision.files, *_files_of(manifest.perceiver)])


def reasoner_weights(bundle: Bundle) -> Weights:
    """Return what thinking takes: language model, adapter."""
    manifest = bundle.manifest
    return _weights(bundle, _files_of(manifest.reasoner or manifest.perceiver))


def grid_outcome(
    questions: Sequence[Question],
    perceivers: Sequence[Weights],
    reasoners: Sequence[Weights],
    answers: Answers,
) -> Grid:
    """Compare halves.

    Args:
        questions: asked of all of them; at least one.
        perceivers: at least one.
        reasoners: at least one.
        answers: extractions of all perceivers, and thoughts of all reasoners over these.
    """
    seen = {
        half.model: [answers.find(half.model, EXTRACTION, q) for q in questions]
        for half in perceivers
    }
    pairs, marks, thoughts = [], {}, {half.model: list[Reply]() for half in reasoners}
    for perceiver in perceivers:
        for reasoner in reasoners:
            thought = [answers.find(reasoner.model, RETHINK, q, perceiver.model) for q in questions]
            right = np.array([mark(said, q) for said, q in zip(thought, questions, strict=True)])
            both = [
                (first.reply, second.reply)
                for first, second in zip(seen[perceiver.model], thought, strict=True)
                if first and second and first.reply and second.reply
            ]
            marks[perceiver.model, reasoner.model] = right.astype(float)
            thoughts[reasoner.model] += [second for _, second in both]
            pairs.append(
                Pair(
                    perceiver=perceiver.model,
                    reasoner=reasoner.model,
                    share=share_of(right),
                    weight_bytes=sum((perceiver.files | reasoner.files).values()),
                    cost=cost_of([_sum(first, second) for first, second in both]),
                )
            )
    by_question = np.array([[marks[p.model, r.model] for r in reasoners] for p in perceivers])
    perception = _Axis.of(perceivers, by_question.mean(axis=1))
    reasoning = _Axis.of(reasoners, by_question.mean(axis=0))
    return Grid(
        asked=len(questions),
        perceivers=tuple(
            Half(
                model=half.model,
                weight_bytes=half.weight_bytes,
                cost=cost_of([said.reply for said in seen[half.model] if said and said.reply]),
            )
            for half in perceivers
        ),
        reasoners=tuple(
            Half(
                model=half.model,
                weight_bytes=half.weight_bytes,
                cost=cost_of(thoughts[half.model]),
            )
            for half in reasoners
        ),
        pairs=tuple(pairs),
        perception=None if perception is None else perception.effect,
        reasoning=None if reasoning is None else reasoning.effect,
        advice=advice(perception, reasoning),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Axis:
    """The smallest and the largest bundle of one half.

    Attributes:
        effect: what the largest gains.
        gains: float64 [questions] the same by question, -1 to 1.
    """

    effect: Effect
    gains: NDArray[np.float64]

    @classmethod
    def of(cls, halves: Sequence[Weights], shares: NDArray[np.float64]) -> "_Axis | None":
        """Compare the ends of an axis; None if it has one bundle.

        Args:
            halves: the bundles.
            shares: float64 [bundles, questions] right answers, averaged over the other half.
        """
        if len(halves) < 2:
            return None
        sizes = [half.weight_bytes for half in halves]
        low, high = int(np.argmin(sizes)), len(sizes) - 1 - int(np.argmax(sizes[::-1]))
        gains = shares[high] - shares[low]
        gain = mean_gain(gains)
        effect = Effect(
            smallest=halves[low].model,
            largest=halves[high].model,
            extra_bytes=sizes[high] - sizes[low],
            gain=gain.value,
            interval=gain.interval,
        )
        return cls(effect, gains)

    def gains_by_memory(self) -> NDArray[np.float64]:
        return self.gains * (_BYTES_COMPARED / self.effect.extra_bytes)


def advice(perception: _Axis | None, reasoning: _Axis | None) -> str:
    """Say which half to spend memory on, if the questions say so beyond the intervals.

    Args:
        perception: the ends of the perceivers; None: there is one.
        reasoning: the ends of the reasoners; None: there is one.
    """
    axes = {"perceiver": perception, "reasoner": reasoning}
    varied = {name: axis for name, axis in axes.items() if axis is not None}
    if not varied:
        return "One pair does not tell which half to spend memory on."
    told = " ".join(_tell(name, axis.effect) for name, axis in varied.items())
    if len(varied) == 1:
        return f"{told} The other half was not varied, so this does not compare them."
    assert perception is not None
    assert reasoning is not None
    asked = len(perception.gains)
    if asked < _LEAST_QUESTIONS:
        return f"{asked} questions are too few to tell which half to spend memory on. {told}"
    if not (perception.effect.extra_bytes and reasoning.effect.extra_bytes):
        return f"{told} Where all bundles of a half have one size, gains by memory say nothing."
    between = mean_gain(perception.gains_by_memory() - reasoning.gains_by_memory())
    low, high = between.interval
    if low > 0 and _is_gain(perception):
        return f"Spend memory on the perceiver. {told} {_by_memory('perceiver', between)}"
    if high < 0 and _is_gain(reasoning):
        turned = Gain(-between.value, (-high, -low))
        return f"Spend memory on the reasoner. {told} {_by_memory('reasoner', turned)}"
    return f"These questions do not tell which half to spend memory on. {told}"


def _is_gain(axis: _Axis) -> bool:
    return axis.effect.interval[0] > 0


def _tell(name: str, effect: Effect) -> str:
    return (
        f"The larger {name}, {effect.largest}, gains {_points(effect.gain, effect.interval)} "
        f"for {effect.extra_bytes / 1e6:.0f} MB more."
    )


def _by_memory(name: str, gain: Gain) -> str:
    return (
        f"That is {_points(gain.value, gain.interval)} more for each "
        f"{_BYTES_COMPARED / 1e6:.0f} MB of {name}."
    )


def _points(gain: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{100 * gain:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"


def _sum(first: Reply, second: Reply) -> Reply:
    return Reply(
        text=second.text,
        extraction=first.extraction,
        reasoning=second.reasoning,
        seconds=first.seconds + second.seconds,
        tokens=first.tokens + second.tokens,
    )


def _files_of(spec: LanguageModelSpec) -> list[FileRef]:
    return [spec.weights] if spec.adapter is None else [spec.weights, spec.adapter]


def _weights(bundle: Bundle, refs: Sequence[FileRef]) -> Weights:
    return Weights(model_key(bundle), {ref.sha256: ref.size_bytes for ref in refs})
