"""Numeric comparisons that the tools share. In: arrays. Out: plain floats, or one value a row."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def max_abs_error(actual: Floats, reference: Floats) -> float:
    """Return the largest absolute difference; NaN anywhere counts as infinite.

    Args:
        actual: any shape.
        reference: the same shape.

    Returns:
        The difference, in the arrays' own unit.

    Raises:
        ValueError: the shapes differ.
    """
    _same_shape(actual, reference)
    difference = np.abs(actual.astype(np.float64) - reference.astype(np.float64))
    return float(np.max(np.nan_to_num(difference, nan=np.inf), initial=0.0))


def row_cosines(actual: Floats, reference: Floats) -> NDArray[np.float64]:
    """Return the cosine of each row with its reference; 0 for a row of length 0 or with NaN.

    Args:
        actual: `[..., D]`.
        reference: the same shape.

    Returns:
        `[rows] float64`, -1 to 1, the leading axes flattened.

    Raises:
        ValueError: the shapes differ.
    """
    _same_shape(actual, reference)
    a = actual.reshape(-1, actual.shape[-1]).astype(np.float64)
    b = reference.reshape(-1, reference.shape[-1]).astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    dots = np.einsum("rd,rd->r", a, b)
    usable = np.isfinite(dots) & np.isfinite(lengths) & (lengths > 0)
    return np.asarray(np.divide(dots, lengths, out=np.zeros_like(dots), where=usable))


def row_divergences(actual_logits: Floats, reference_logits: Floats) -> NDArray[np.float64]:
    """Return the Kullback-Leibler divergence of token distributions, reference to actual.

    Args:
        actual_logits: `[T, V]`.
        reference_logits: `[T, V]`.

    Returns:
        `[T] float64`, nats, at least 0; infinite for a row with NaN.

    Raises:
        ValueError: the shapes differ.
    """
    _same_shape(actual_logits, reference_logits)
    actual = _log_softmax(actual_logits)
    reference = _log_softmax(reference_logits)
    divergence = np.sum(np.exp(reference) * (reference - actual), axis=-1)
    return np.asarray(np.nan_to_num(np.maximum(divergence, 0.0), nan=np.inf))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitsDifference:
    """How far the logits of two models are apart.

    Attributes:
        max_abs: largest absolute difference of one logit.
        mean_kl: mean Kullback-Leibler divergence of the next token's distribution, nats.
        mean_cosine: mean cosine between the logits of a position.
        same_top: share of positions with the same most probable token, 0 to 1.
        tokens: positions compared.
    """

    max_abs: float
    mean_kl: float
    mean_cosine: float
    same_top: float
    tokens: int


def compare_logits(
    actual: Iterable[NDArray[np.float32]], reference: Iterable[NDArray[np.float32]]
) -> LogitsDifference:
    """Compare two models' logits, one sequence after the other.

    Args:
        actual: `[T, V]` a sequence.
        reference: the same shapes.
    """
    worst = 0.0
    divergences: list[NDArray[np.float64]] = []
    cosines: list[NDArray[np.float64]] = []
    agreements: list[NDArray[np.bool_]] = []
    for found, expected in zip(actual, reference, strict=True):
        worst = max(worst, max_abs_error(found, expected))
        divergences.append(row_divergences(found, expected))
        cosines.append(row_cosines(found, expected))
        agreements.append(found.argmax(axis=-1) == expected.argmax(axis=-1))
    every = np.concatenate(divergences)
    return LogitsDifference(
        max_abs=worst,
        mean_kl=float(every.mean()),
        mean_cosine=float(np.concatenate(cosines).mean()),
        same_top=float(np.concatenate(agreements).mean()),
        tokens=len(every),
    )


def _log_softmax(logits: Floats) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - np.max(logits, axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True)))


def _same_shape(actual: Floats, reference: Floats) -> None:
    if actual.shape != reference.shape:
        raise ValueError(f"shapes differ: {list(actual.shape)} against {list(reference.shape)}")
