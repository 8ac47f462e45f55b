"""The cost of a picture, known before any work: tiles, image tokens, memory, time.

In: what the picture will become, the sizes of the language model that reads it, and what was
measured on this machine. Out: `ImageCost`.
"""

from dataclasses import dataclass
from time import perf_counter

import numpy as np

from edge_et.bundle import Processing
from edge_et.errors import OptionError
from edge_et.image import ImagePlan, ImageTokens, Tower
from edge_et.llm import ImageSegment, LlamaKVCache, ModelShape
from edge_et.options import KvType

CALIBRATION_POSITIONS = 64
"""Positions of the longest prompt that `calibrate` evaluates."""

# Reads all weights from the disk, so that the prompt that is timed finds them in memory.
_WARM_UP_POSITIONS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What one machine took for a small piece of work.

    Attributes:
        tile_seconds: one tile through the vision tower.
        prefill_positions: positions of a prompt.
        prefill_seconds: that prompt through the language model.
    """

    tile_seconds: float
    prefill_positions: int
    prefill_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageCost:
    """What a picture costs before the first word of an answer.

    Attributes:
        tiles: tiles that go through the vision tower.
        image_tokens: positions that the picture takes in the context.
        kv_bytes: what these take in the KV cache.
        seconds: estimate for the tower and the prefill of the image tokens; None: nothing was
            measured.
    """

    tiles: int
    image_tokens: int
    kv_bytes: int
    seconds: float | None


def image_cost(
    plan: ImagePlan, shape: ModelShape, kv_type: KvType, calibration: Calibration | None
) -> ImageCost:
    """Estimate what a picture costs.

    Seconds are those of a tile times the tiles, and those of the calibration's prompt times the
    ratio of `ModelShape.prefill_flops`. Attention is so taken to do as many operations a second
    as the rest, and a machine not to slow down when it gets hot.

    Args:
        plan: what the picture becomes.
        shape: of the language model.
        kv_type: number type of its cache.
        calibration: what was measured with the same bundle and machine.

    Raises:
        OptionError: the calibration is none.
    """
    if not isinstance(calibration, Calibration | None):
        raise OptionError("calibration", calibration, "what `edge_et.pipeline.measure` returned")
    seconds = None
    if calibration is not None:
        work = shape.prefill_flops(plan.image_tokens)
        work /= shape.prefill_flops(calibration.prefill_positions)
        seconds = plan.tiles * calibration.tile_seconds + work * calibration.prefill_seconds
    return ImageCost(
        tiles=plan.tiles,
        image_tokens=plan.image_tokens,
        kv_bytes=shape.kv_bytes(plan.image_tokens, kv_type),
        seconds=seconds,
    )


def calibrate(tower: Tower, context: LlamaKVCache, processing: Processing) -> Calibration:
    """Send one grey tile through the tower and some of its tokens through the language model.

    Args:
        tower: the bundle's.
        context: the perceiver's, of more than `CALIBRATION_POSITIONS`; it is empty afterwards.
        processing: the bundle's rules.

    Raises:
        VisionRunError: the vision tower failed.
        DecodeError: the language model failed.
    """
    tile = np.zeros((3, processing.height, processing.width), np.float32)
    start = perf_counter()
    rows = tower.encode([tile]).features[0]
    tile_seconds = perf_counter() - start
    rows = np.resize(rows, (CALIBRATION_POSITIONS, rows.shape[1]))
    prefill_seconds = 0.0
    for count in (_WARM_UP_POSITIONS, CALIBRATION_POSITIONS):
        context.clear()
        start = perf_counter()
        context.prefill([ImageSegment(ImageTokens(rows[:count], digest="calibration"))])
        prefill_seconds = perf_counter() - start
    context.clear()
    return Calibration(
        tile_seconds=tile_seconds,
        prefill_positions=CALIBRATION_POSITIONS,
        prefill_seconds=prefill_seconds,
    )
