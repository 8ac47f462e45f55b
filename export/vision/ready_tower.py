"""Turn a vision tower that somebody exported to ONNX into the bundle's graph.

In: the graph of transformers.js or of optimum, and the projector's arrays where the graph has none.
Out: `vision.onnx`, pixel_values [N,3,H,W] float32 -> image_tokens [N,S,D] float32, run and compared
before it appears. torch and transformers are not needed.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_et.export.steps import Progress, StepReport, no_progress


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """One linear of a projector, as torch stores it.

    Attributes:
        weight: [width out, width in] float32.
        bias: [width out] float32; None: it has none.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ProjectorArrays:
    """The projectors of LLaVA and Idefics3, with GELU (exact, by erf) between their linears.

    Attributes:
        linears: at least one.
        factor: side of the block of patches that becomes one image token, in the order that
            `projector.py` tells; 1: each patch by itself.
    """

    linears: tuple[Linear, ...]
    factor: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerShape:
    """What the graph shall take and give.

    Attributes:
        height: H of a tile, pixels.
        width: W of a tile, pixels.
        image_tokens: S, image tokens of a tile.
        embedding_width: D, of the language model.
    """

    height: int
    width: int
    image_tokens: int
    embedding_width: int


def adapt_tower(
    source: Path,
    out: Path,
    shape: TowerShape,
    *,
    projector: ProjectorArrays | None = None,
    feature_layer: int | None = None,
    newline: NDArray[np.float32] | None = None,
    markup: NDArray[np.float32] | None = None,
    progress: Progress = no_progress,
) -> StepReport:
    """Write the bundle's graph of a ready-made tower.

    Args:
        source: the ONNX file, with or without weights beside it.
        out: the ONNX file to write, replaced if it exists. Weights beyond 2 GiB lie in a file
            beside it, named as it is with `.data` at the end.
        shape: what the checkpoint's configs say; another one is refused.
        projector: put behind a tower that gives patch features; where the tower has its projector
            inside, that is compared with these. None: it is inside, and not compared.
        feature_layer: None takes the features after the final layernorm; -1, -2, ... take
            `hidden_states[feature_layer]` of the graph's own layers, before it.
        newline: [D] float32, for the output image_newline; None: there is none.
        markup: [M,D] float32, for the output image_markup; None: there is none.
        progress: told the steps.

    Returns:
        What was written, and how far its image tokens are from those that numpy makes of the
        tower's features. Nothing was compared, and `error` is None, where the projector is inside
        and no arrays were given, or the features could not be found.

    Raises:
        GraphError: the file cannot be read or run, is no vision tower, or mixes its tiles.
        UnsupportedModelError: a tower that the bundle cannot express, or a quantization that ONNX
            Runtime does not run on a CPU.
        AssemblyError: its tiles, image tokens or widths are not those of `shape`.
        ParityError: the image tokens differ too much. Nothing is left behind.
        OutputError: the file cannot be written.
    """
    raise NotImplementedError
