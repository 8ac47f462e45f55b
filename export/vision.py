"""A vision backbone and its projector to one ONNX graph.

In: a Hugging Face backbone folder and a projector folder, or a `TowerWithProjector` in memory.
Out: `vision.onnx`, pixel_values [N, 3, H, W] float32 -> image_tokens [N, S, D] float32, N free,
compared with torch before it appears.
"""

from pathlib import Path

from edge_et.export.compare import max_abs_error
from edge_et.export.errors import ParityError, UnsupportedModelError
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
    import onnx
    import torch

    from edge_et.export.onnx_graph import INPUT, OUTPUT, open_session, run_graph, strip_traces
    from edge_et.export.projector_files import load_projector
    from edge_et.export.vision_modules import TowerWithProjector, load_backbone

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
        out: the ONNX file to write, replaced if it exists.
        progress: told the steps.

    Returns:
        What was written and how far it is from torch.

    Raises:
        UnsupportedModelError: the patches do not form blocks for the projector.
        ParityError: the graph differs too much. Nothing is left behind.
    """
    watch = Stopwatch()
    tower.eval()
    progress("export graph", 0, 3)
    model = _trace(tower)
    progress("write graph", 1, 3)
    with atomic_output(out) as temporary:
        onnx.save(model, temporary)
        progress("compare with torch", 2, 3)
        error = _error_against_torch(temporary, tower)
        if not error <= MAX_TOKEN_ERROR:
            raise ParityError(f"{out} against torch", "max abs error", error, MAX_TOKEN_ERROR)
    progress("compare with torch", 3, 3)
    return StepReport(
        name="vision float32",
        path=out,
        size_bytes=out.stat().st_size,
        measure="max abs error",
        error=error,
        limit=MAX_TOKEN_ERROR,
        seconds=watch.seconds,
    )


def _trace(tower: TowerWithProjector) -> onnx.ModelProto:
    size = tower.backbone.image_size
    example = torch.zeros(2, 3, size, size)
    try:
        with torch.inference_mode():
            tower(example)
    except ValueError as err:
        raise UnsupportedModelError(f"tiles of {size} pixels: {err}") from err
    program = torch.onnx.export(
        tower,
        (example,),
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes={INPUT: {0: torch.export.Dim("N")}},
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    strip_traces(model)
    onnx.checker.check_model(model)
    return model


def _error_against_torch(path: Path, tower: TowerWithProjector) -> float:
    session = open_session(path)
    random = np.random.default_rng(_CHECK_SEED)
    size = tower.backbone.image_size
    worst = 0.0
    for tiles in _CHECK_TILES:
        pixel_values = random.standard_normal((tiles, 3, size, size), dtype=np.float32)
        with torch.inference_mode():
            expected = tower(torch.from_numpy(pixel_values)).numpy()
        worst = max(worst, max_abs_error(run_graph(session, pixel_values), expected))
    return worst
