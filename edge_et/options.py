"""Options of one call, and the defaults that depend on the machine.

In: what a caller wrote. Out: checked values; None means the bundle's own default. What the options
do is not known here.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypedDict, get_type_hints

import msgspec
from msgspec import Meta, Struct

from edge_et.errors import OptionError

DEFAULT_MAX_PIXELS = 50_000_000  # a decoded picture of that size takes 150 MB
DEFAULT_IMAGE_CACHE_BYTES = 64 * 2**20  # one picture of 16 tiles, 2048 wide: 7,300 image tokens
DEFAULT_CACHE_BYTES = 2**30  # on disk: a dozen pictures of 729 image tokens in a 0.6B's KV cache

_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1 = Path("/sys/fs/cgroup/cpu")


class ImageOptionValues(TypedDict, total=False):
    """The keyword arguments of a call that encodes a picture; see `AnswerOptions`."""

    max_tiles: int | None
    pooling: int | None


class OptionValues(ImageOptionValues, total=False):
    """The keyword arguments of a call; see `AnswerOptions` for what they mean."""

    max_extraction_tokens: int | None
    max_thinking_tokens: int | None
    max_answer_tokens: int | None
    temperature: float | None
    top_p: float | None
    seed: int | None
    hint: str | None
    thinking: bool | None
    deadline_s: float | None


class AnswerOptions(Struct, frozen=True, kw_only=True):
    """Options of one call; None is the bundle's default."""

    max_tiles: (
        Annotated[int, Meta(ge=1, description="Most tiles of a picture, all of it included.")]
        | None
    ) = None
    pooling: (
        Annotated[
            Literal[1, 2], Meta(description="2: blocks of 2x2 of a tile's tokens become one.")
        ]
        | None
    ) = None
    max_extraction_tokens: Annotated[int, Meta(ge=1, description="Budget of stage 1.")] | None = (
        None
    )
    max_thinking_tokens: (
        Annotated[int, Meta(ge=0, description="Budget of stage 2 before the answer.")] | None
    ) = None
    max_answer_tokens: Annotated[int, Meta(ge=1, description="Budget of the answer.")] | None = None
    temperature: (
        Annotated[
            float, Meta(ge=0, le=10, description="0: the most probable token, in both stages.")
        ]
        | None
    ) = None
    top_p: (
        Annotated[
            float, Meta(gt=0, le=1, description="Probability mass of the tokens chosen among.")
        ]
        | None
    ) = None
    seed: (
        Annotated[
            int,
            Meta(ge=0, le=2**63 - 1, description="Same seed, same text; for temperatures over 0."),
        ]
        | None
    ) = None
    hint: (
        Annotated[
            str, Meta(min_length=1, description="What stage 1 is to pay special attention to.")
        ]
        | None
    ) = None
    thinking: (
        Annotated[bool, Meta(description="Whether a reasoner that marks its thoughts has any.")]
        | None
    ) = None
    deadline_s: (
        Annotated[
            float,
            Meta(gt=0, description="Time for the whole answer, counted from the call, seconds."),
        ]
        | None
    ) = None


_KINDS = get_type_hints(AnswerOptions, include_extras=True)


def parse_options(values: Mapping[str, object]) -> AnswerOptions:
    """Check the options of a call.

    Args:
        values: options by name.

    Raises:
        OptionError: an option is unknown, of a wrong type or out of its range.
    """
    for name, value in values.items():
        if name not in _KINDS:
            raise OptionError(name, value, f"one of the options {', '.join(_KINDS)}")
        try:
            msgspec.convert(value, _KINDS[name])
        except msgspec.ValidationError as err:
            raise OptionError(name, value, str(err).removeprefix("Expected ")) from err
        if isinstance(value, float) and not math.isfinite(value):
            raise OptionError(name, value, "a finite number")
    return AnswerOptions(**values)  # type: ignore[arg-type]  # checked above, each on its own


def parse_image_options(values: Mapping[str, object]) -> AnswerOptions:
    """Check the options of a call that encodes a picture.

    Args:
        values: options by name.

    Raises:
        OptionError: as for `parse_options`, or an option has no meaning for pictures.
    """
    names = get_type_hints(ImageOptionValues)
    for name, value in values.items():
        if name not in names:
            raise OptionError(name, value, f"one of the options {', '.join(names)}")
    return parse_options(values)


def check_at_least(name: str, value: int, least: int) -> None:
    """Check a whole number.

    Args:
        name: what the caller knows it as.
        value: the number.
        least: the smallest that is accepted.

    Raises:
        OptionError: it is no whole number, or smaller.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise OptionError(name, value, f"a whole number of at least {least}")


def default_threads() -> int:
    """Return how many CPUs this process may use: its affinity, bounded by its container's quota."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = cpu_quota(_CGROUP_V2, _CGROUP_V1)
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def cpu_quota(v2: Path, v1: Path) -> float | None:
    """Return the CPUs that a control group grants; None where it sets no bound.

    Args:
        v2: the file cpu.max of a version 2 group.
        v1: the folder of a version 1 group.
    """
    try:
        if v2.exists():
            granted, period = v2.read_text().split()
        else:
            granted = (v1 / "cpu.cfs_quota_us").read_text()
            period = (v1 / "cpu.cfs_period_us").read_text()
        bound = float(granted) / float(period)
    except (OSError, ValueError):  # no control groups here, or "max": no bound
        return None
    return bound if bound > 0 else None
