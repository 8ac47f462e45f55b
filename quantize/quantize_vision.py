"""Quantize a float32 vision graph to 8 bits, as far as the image tokens allow.

In: `vision.onnx` and pixel values of real pictures. Out: a graph whose tokens keep their direction:
at least 99 % of them have a cosine of 0.99 or more with the float32 graph's.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edge_et.export.errors import ParityError, QuantizationError, UnknownQuantizationError
from edge_et.export.steps import (
    Progress,
    StepReport,
    Stopwatch,
    atomic_output,
    needing_extra,
    no_progress,
    release_memory,
)
from edge_et.threads import choose_threads

with needing_extra("export"):
    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from edge_et.export.numeric_comparison import max_abs_error, row_cosines
    from edge_et.export.vision.onnx_graph import open_session, run_graph
    from edge_et.quantize.vision_methods import METHODS, Method, root_logger_kept

VISION_METHODS = ("auto", "dynamic", "static", "weight-only")

MIN_COSINE = 0.99
"""What a token's cosine with its float32 self has to reach ..."""

MAX_SHARE_BELOW = 0.01
"""... for all but this share of the tokens (Extract and Think need the direction of a token)."""

_SIZE_SLACK = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionQuantization:
    """What was tried and what was kept.

    Attributes:
        chosen: the candidate that was written.
        candidates: all that were measured, in the order they were tried.
        keep_float: modules whose linears stayed float in the chosen one.
    """

    chosen: StepReport
    candidates: tuple[StepReport, ...]
    keep_float: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    report: StepReport
    keep_float: tuple[str, ...]

    @property
    def passes(self) -> bool:
        assert self.report.error is not None
        return self.report.error <= MAX_SHARE_BELOW

    @property
    def milliseconds(self) -> float:
        return self.report.details["ms_per_tile"]

    @property
    def lowest_cosine(self) -> float:
        return self.report.details["cosine_1st_percentile"]


def quantize_vision(
    graph: Path,
    out: Path,
    pictures: NDArray[np.float32],
    calibration: NDArray[np.float32],
    *,
    method: str = "auto",
    threads: int = 0,
    progress: Progress = no_progress,
) -> VisionQuantization:
    """Quantize a vision graph and measure its tokens.

    `auto` tries dynamic, static and weight-only. Of those that pass it keeps the fastest among all
    that are at most 10 % larger than the smallest. If none passes, dynamic is tried with one more
    kind of linear left in float at a time (say all `mlp.fc2`), the kind whose absence helps most,
    until it passes.

    Args:
        graph: the float32 ONNX file.
        out: the ONNX file to write, replaced if it exists.
        pictures: `[M, 3, H, W]`, pixel values of real pictures to evaluate on.
        calibration: `[K, 3, H, W]`, others, for the scales of static quantization.
        method: one method by name, or `auto`.
        threads: CPU threads for the timing; 0: all CPUs of this process.
        progress: told the candidates.

    Returns:
        The measurements of every candidate, the chosen one's first of all in `chosen`.

    Raises:
        OptionError: `threads` is out of its range.
        UnknownQuantizationError: no such method.
        GraphError: the graph cannot be read or run.
        QuantizationError: there are no pictures, or ONNX Runtime's quantizer failed.
        ParityError: too many tokens turn away. Nothing is left behind.
    """
    if method not in VISION_METHODS:
        raise UnknownQuantizationError(method, VISION_METHODS)
    if not len(pictures) or not len(calibration):
        raise QuantizationError("there must be pictures to evaluate on and to calibrate with")
    threads = choose_threads(threads or None)
    methods = dict(METHODS) if method == "auto" else {method: METHODS[method]}
    with atomic_output(out) as temporary, root_logger_kept():
        trial = _Trial(graph, temporary.parent, pictures, calibration, threads, progress)
        candidates = [trial.run(name, function) for name, function in methods.items()]
        if method == "auto" and not any(candidate.passes for candidate in candidates):
            candidates += trial.keep_more_float(candidates[0])
        best = _best(candidates)
        assert best.report.error is not None
        if not best.passes:
            measure = f"share of tokens with cosine below {MIN_COSINE}"
            raise ParityError(str(out), measure, best.report.error, MAX_SHARE_BELOW)
        best.report.path.replace(temporary)
    return VisionQuantization(
        chosen=replace(best.report, path=out),
        candidates=tuple(replace(candidate.report, path=out) for candidate in candidates),
        keep_float=best.keep_float,
    )


class _Trial:
    """Measures candidates against the tokens of the float32 graph."""

    def __init__(
        self,
        graph: Path,
        folder: Path,
        pictures: NDArray[np.float32],
        calibration: NDArray[np.float32],
        threads: int,
        progress: Progress,
    ) -> None:
        self._graph = graph
        self._folder = folder
        self._pictures = pictures
        self._calibration = calibration
        self._threads = threads
        self._progress = progress
        self._tried = 0
        self._tokens, self._float_ms = self._encode(graph)

    def run(
        self, name: str, method: Method, keep_float: Mapping[str, list[str]] | None = None
    ) -> _Candidate:
        """Quantize by one method and measure.

        Args:
            name: of the method.
            method: does it.
            keep_float: kinds of linears that stay float, with their nodes.
        """
        watch = Stopwatch()
        kept = keep_float or {}
        label = " ".join([name, *(f"without {kind}" for kind in kept)])
        self._tried += 1
        self._progress(f"try {label}", self._tried, len(METHODS))
        path = self._folder / f"candidate-{self._tried}.onnx"
        try:
            nodes = [node for kind in kept.values() for node in kind]
            method(self._graph, path, self._calibration, nodes)
        except Exception as err:  # the quantizers raise whatever comes up
            raise QuantizationError(f"{label} failed on {self._graph}: {err}") from err
        tokens, milliseconds = self._encode(path)
        cosines = row_cosines(tokens, self._tokens)
        report = StepReport(
            name=f"vision int8 {label}",
            path=path,
            size_bytes=path.stat().st_size,
            measure=f"share of tokens with cosine below {MIN_COSINE}",
            error=float(np.mean(cosines < MIN_COSINE)),
            limit=MAX_SHARE_BELOW,
            seconds=watch.seconds,
            details={
                "float32_size_bytes": self._graph.stat().st_size,
                "float32_ms_per_tile": self._float_ms,
                "ms_per_tile": milliseconds,
                "cosine_1st_percentile": float(np.quantile(cosines, 0.01)),
                "cosine_mean": float(cosines.mean()),
                "max_abs_error": max_abs_error(tokens, self._tokens),
            },
        )
        return _Candidate(report=report, keep_float=tuple(kept))

    def keep_more_float(self, start: _Candidate) -> list[_Candidate]:
        """Leave kinds of linears in float, the most helpful first, until the tokens hold."""
        kinds = _kinds_of_linears(self._graph)
        kept: dict[str, list[str]] = {}
        current, tried = start, []
        while not current.passes and len(kept) < len(kinds):
            options = [
                self.run("dynamic", METHODS["dynamic"], {**kept, kind: nodes})
                for kind, nodes in kinds.items()
                if kind not in kept
            ]
            tried += options
            current = max(
                options, key=lambda option: option.report.details["cosine_1st_percentile"]
            )
            kept = {kind: kinds[kind] for kind in current.keep_float}
        return tried

    def _encode(self, path: Path) -> tuple[NDArray[np.float32], float]:
        """Return the tokens of all pictures, and the least time of one, milliseconds.

        It is the least and not the median, since other work on the machine can only add to it.
        """
        session = open_session(path, self._threads)
        run_graph(session, self._pictures[:1])
        tokens, times = [], []
        for picture in self._pictures:
            start = time.perf_counter()
            tokens.append(run_graph(session, picture[None]))
            times.append(time.perf_counter() - start)
        del session
        release_memory()
        return np.concatenate(tokens), min(times) * 1e3


def _best(candidates: list[_Candidate]) -> _Candidate:
    passing = [candidate for candidate in candidates if candidate.passes]
    if not passing:
        return min(candidates, key=lambda candidate: candidate.report.error or 0.0)
    smallest = min(candidate.report.size_bytes for candidate in passing)
    small = [c for c in passing if c.report.size_bytes <= smallest * _SIZE_SLACK]
    return min(small, key=lambda candidate: candidate.milliseconds)


def _kinds_of_linears(graph: Path) -> dict[str, list[str]]:
    """Group nodes with constant weights by their module, layer numbers left out."""
    model = onnx.load(graph)
    constants = {tensor.name for tensor in model.graph.initializer}
    kinds: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants:
            module = node.name.rpartition("/")[0]
            kind = ".".join(part for part in module.split(".") if not part.isdigit())
            kinds.setdefault(kind, []).append(node.name)
    return kinds
