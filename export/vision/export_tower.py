"""Export a vision backbone and its projector to one ONNX graph.

In: a Hugging Face backbone folder and a projector folder, or a `TowerWithProjector` in memory.
Out: `vision.onnx`, pixel_values [N, 3, H, W] float32 -> image_tokens [N, S, D] float32, N free, and
H, W and S where the backbone takes tiles of many sizes; and image_newline [D] and image_markup
[M, D] float32 where the tower has them; compared with torch before it appears.
"""

from pathlib import Path
from typing import Any

from edge_et.export.errors import ParityError, UnsupportedModelError
from edge_et.export.numeric_comparison import max_abs_error
from edge_et.export.steps import (
    Progress,
    StepReport,
    Stopwatch,
    atomic_output,
    needing_extra,
    no_progress,
)

with needing_extra("export"):
    import numpy as np
    import onnx_ir
    import torch
    from numpy.typing import NDArray

    from edge_et.export.vision.onnx_graph import (
        INPUT,
        MARKUP,
        NEWLINE,
        OUTPUT,
        data_path,
        open_session,
        run_outputs,
    )
    from edge_et.export.vision.onnx_transposes import fold_transposes
    from edge_et.export.vision.onnx_writer import write_model
    from edge_et.export.vision.projector_files import load_projector
    from edge_et.export.vision.torch_tower import (
        SizedBackbone,
        TowerWithProjector,
        load_backbone,
    )

MAX_TOKEN_ERROR = 1e-4
"""Largest difference of one value of an image token from torch's, in float32."""

OPSET = 20
"""First opset with Gelu as one operator."""

_CHECK_SEED = 20
_CHECK_TILES = (1, 3)


def export_vision(
    backbone: Path,
    projector: Path,
    out: Path,
    *,
    image_size: int | None = None,
    feature_layer: int | None = None,
    progress: Progress = no_progress,
) -> StepReport:
    """Export a backbone folder with a projector folder.

    Args:
        backbone: config.json and safetensors of DINOv2 or SigLIP.
        projector: projector.json and projector.safetensors.
        out: the ONNX file to write, replaced if it exists.
        image_size: H and W of a tile, pixels; None: the backbone's own.
        feature_layer: None takes the features after the final layernorm; -1, -2, ... take
            `hidden_states[feature_layer]`, before it.
        progress: told the steps.

    Returns:
        What was written and how far it is from torch.

    Raises:
        CheckpointError: a folder cannot be used, or the two do not fit; its children tell why.
        ParityError: the graph differs too much. Nothing is left behind.
    """
    tower = TowerWithProjector(
        load_backbone(backbone, image_size, feature_layer), load_projector(projector)
    )
    return export_tower(tower, out, progress=progress)


def export_tower(
    tower: TowerWithProjector, out: Path, *, progress: Progress = no_progress
) -> StepReport:
    """Export a tower that is in memory.

    Args:
        tower: float32; it is left in evaluation mode.
        out: the ONNX file to write, replaced if it exists. Weights beyond 2 GiB lie in a file
            beside it, named as it is with `.data` at the end.
        progress: told the steps.

    Returns:
        What was written and how far it is from torch.

    Raises:
        UnsupportedModelError: the patches do not form blocks for the projector.
        ParityError: the graph differs too much. Nothing is left behind.
    """
    watch = Stopwatch()
    tower.eval()
    progress("run torch", 0, 4)
    expected = _run_torch(tower)
    progress("export graph", 1, 4)
    graph = _trace(tower)
    with atomic_output(out) as temporary:
        progress("write graph", 2, 4)
        write_model(temporary, graph)
        progress("compare with torch", 3, 4)
        error = _error(temporary, expected)
        if not error <= MAX_TOKEN_ERROR:
            raise ParityError(f"{out} against torch", "max abs error", error, MAX_TOKEN_ERROR)
        size_bytes = temporary.stat().st_size
        if (data := data_path(temporary)).exists():
            size_bytes += data.stat().st_size
            data.replace(data_path(out))
    progress("compare with torch", 4, 4)
    return StepReport(
        name="vision float32",
        path=out,
        size_bytes=size_bytes,
        measure="max abs error",
        error=error,
        limit=MAX_TOKEN_ERROR,
        seconds=watch.seconds,
    )


def _run_torch(tower: TowerWithProjector) -> list[dict[str, NDArray[np.float32]]]:
    """Run torch on each number and size of tiles; return inputs and outputs by name."""
    random = np.random.default_rng(_CHECK_SEED)
    names = _output_names(tower)
    runs = []
    for tiles, height, width in _check_shapes(tower):
        pixel_values = random.standard_normal((tiles, 3, height, width), dtype=np.float32)
        try:
            with torch.inference_mode():
                made = tower(torch.from_numpy(pixel_values))
        except ValueError as err:
            raise UnsupportedModelError(f"tiles of {width} pixels: {err}") from err
        outputs = made if isinstance(made, tuple) else (made,)
        arrays = [pixel_values, *(output.numpy() for output in outputs)]
        runs.append(dict(zip([INPUT, *names], arrays, strict=True)))
    return runs


def _check_shapes(tower: TowerWithProjector) -> list[tuple[int, int, int]]:
    """Return numbers, heights and widths of tiles to compare on."""
    backbone = tower.backbone
    size = backbone.image_size
    shapes = [(tiles, size, size) for tiles in _CHECK_TILES]
    if isinstance(backbone, SizedBackbone):
        block = backbone.block
        shapes += [(1, size - block, size), (1, block, 2 * size), (1, size + block, 2 * block)]
    return shapes


def _trace(tower: TowerWithProjector) -> onnx_ir.Model:
    backbone = tower.backbone
    size = backbone.image_size
    free: dict[int, Any] = {0: torch.export.Dim("N")}
    if isinstance(backbone, SizedBackbone):
        sides = {2: torch.export.Dim("rows"), 3: torch.export.Dim("columns")}
        free |= {axis: backbone.block * blocks for axis, blocks in sides.items()}
    program = torch.onnx.export(
        tower,
        (torch.zeros(2, 3, size, size),),
        input_names=[INPUT],
        output_names=_output_names(tower),
        dynamic_shapes={INPUT: free},
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    # The exporter leaves large weights that are used twice behind a Transpose.
    fold_transposes(program.model)
    return program.model


def _output_names(tower: TowerWithProjector) -> list[str]:
    constants = {NEWLINE: tower.newline, MARKUP: tower.markup}
    return [OUTPUT, *(name for name, value in constants.items() if value is not None)]


def _error(path: Path, runs: list[dict[str, NDArray[np.float32]]]) -> float:
    session = open_session(path)
    return max(
        max_abs_error(made, run[name])
        for run in runs
        for name, made in run_outputs(session, run[INPUT]).items()
    )
