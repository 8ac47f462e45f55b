"""Turn a vision tower that somebody exported to ONNX into the bundle's graph.

In: the graph of transformers.js or of optimum, and the projector's arrays where the graph has none.
Out: `vision.onnx`, pixel_values [N,3,H,W] float32 -> image_tokens [N,S,D] float32, run and compared
before it appears. torch and transformers are not needed.

Weights of float16, 8 bits (DynamicQuantizeLinear) and 4 bits (MatMulNBits, MatMulBnb4), as the
files of transformers.js have them, stay as they are: ONNX Runtime computes with all of them on a
CPU.
"""

from pathlib import Path
from typing import Any

from edge_et.export.errors import AssemblyError, GraphError, ParityError, UnsupportedModelError
from edge_et.export.numeric_comparison import max_abs_error
from edge_et.export.steps import (
    Progress,
    StepReport,
    Stopwatch,
    atomic_output,
    needing_extra,
    no_progress,
    release_memory,
)

with needing_extra("assemble"):
    import numpy as np
    import onnx_ir
    from numpy.typing import NDArray

    from edge_et.export.vision.onnx_graph import (
        MARKUP,
        NEWLINE,
        OUTPUT,
        data_path,
        open_any_session,
        open_session,
        run_graph,
        run_outputs,
    )
    from edge_et.export.vision.onnx_nodes import remove_unused
    from edge_et.export.vision.onnx_transposes import fold_transposes
    from edge_et.export.vision.onnx_writer import write_frame, write_split
    from edge_et.export.vision.projector_arrays import Linear, ProjectorArrays
    from edge_et.export.vision.ready_tower_file import read_model
    from edge_et.export.vision.ready_tower_graph import (
        FEATURES,
        Precision,
        Rewritten,
        TowerGraph,
        TowerShape,
    )

__all__ = ["Linear", "ProjectorArrays", "TowerShape", "adapt_tower"]

MAX_PROJECTOR_ERROR = 1e-4
"""Largest difference of an image token's value from numpy's, relative to the largest value, where
the projector is float32."""

_PROJECTOR_LIMITS: dict[Precision, float] = {
    "float32": MAX_PROJECTOR_ERROR,
    "float16": 1e-2,
    "8 bits": 0.3,
    "4 bits": 0.3,
}
"""The same for a projector inside, which is stored in this precision."""

_TILE_LIMITS: dict[Precision, float] = {
    "float32": 1e-5,
    "float16": 1e-2,
    "8 bits": 0.5,
    "4 bits": 1e-2,
}
"""How far a tile's tokens may be from those of the tile alone, relative to the largest value. With
8 bits one scale counts for all tiles that are computed at once, so they are not independent; the
runtime computes one at a time."""

_CHECK_SEED = 20


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
        out: the ONNX file to write, replaced if it exists. Its weights lie in a file beside it,
            named as it is with `.data` at the end.
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
        UnsupportedModelError: a tower that the bundle cannot express, or operators that ONNX
            Runtime does not run on a CPU.
        AssemblyError: its tiles, image tokens or widths are not those of `shape`.
        ParityError: the image tokens differ too much. Nothing is left behind.
        OutputError: the file cannot be written.
    """
    watch = Stopwatch()
    constants = {NEWLINE: newline, MARKUP: markup}
    given = {name: array for name, array in constants.items() if array is not None}
    _check_arrays(shape, projector, given)
    progress("read tower", 0, 4)
    model = read_model(source)
    rewritten = TowerGraph(model, str(source)).rewrite(shape, projector, feature_layer, given)
    fold_transposes(model)
    with atomic_output(out) as temporary:
        probe = temporary.with_name("probe.onnx")
        progress("write graph", 1, 4)
        try:
            _write(temporary, probe, model, rewritten)
        except onnx_ir.serde.SerdeError as err:
            raise GraphError(
                f"{source} cannot be written again, as where names in it are no UTF-8: get it again"
            ) from err
        del model
        release_memory()
        progress("run tiles", 2, 4)
        tiles = _check_tiles(shape)
        _check_tokens(temporary, source, shape, tiles, rewritten.precision)
        progress("compare with numpy", 3, 4)
        error, limit = None, None
        if rewritten.features and projector is not None:
            limit = MAX_PROJECTOR_ERROR
            if rewritten.has_projector:
                limit = _PROJECTOR_LIMITS[rewritten.precision]
            error = _projector_error(probe, source, tiles[:1], projector)
            if not error <= limit:
                raise ParityError(
                    f"{source} against its projector in numpy", "relative error", error, limit
                )
        size_bytes = temporary.stat().st_size + data_path(temporary).stat().st_size
        data_path(temporary).replace(data_path(out))
    progress("compare with numpy", 4, 4)
    return StepReport(
        name=f"ready-made tower {rewritten.precision}",
        path=out,
        size_bytes=size_bytes,
        measure="" if error is None else "max abs error relative to the largest value",
        error=error,
        limit=limit,
        seconds=watch.seconds,
    )


def _check_arrays(
    shape: TowerShape,
    projector: ProjectorArrays | None,
    constants: dict[str, NDArray[np.float32]],
) -> None:
    if projector is not None:
        projector.check(shape.image_tokens, shape.embedding_width)
        if projector.factor > 1 and shape.height != shape.width:
            raise AssemblyError(
                f"tiles of {shape.height} x {shape.width} pixels: blocks of patches need squares"
            )
    for name, array in constants.items():
        rank = 1 if name == NEWLINE else 2
        if array.ndim != rank or array.shape[-1] != shape.embedding_width:
            raise AssemblyError(
                f"{name} is {list(array.shape)}, and the language model is "
                f"{shape.embedding_width} wide"
            )


def _write(path: Path, probe: Path, model: onnx_ir.Model, rewritten: Rewritten) -> None:
    """Write the graph, and another one that gives the features too, over the same weights."""
    write_split(path, model)
    write_frame(probe, model)
    if rewritten.features:
        model.graph.outputs.pop()
        remove_unused(model)
        write_frame(path, model)


def _check_tiles(shape: TowerShape) -> NDArray[np.float32]:
    """Make tiles to try: of noise, all zero as padding is, and all black."""
    noise = np.random.default_rng(_CHECK_SEED).uniform(-1, 1, (3, shape.height, shape.width))
    tiles = np.stack([noise, np.zeros_like(noise), -np.ones_like(noise)])
    return tiles.astype(np.float32)


def _check_tokens(
    path: Path, source: Path, shape: TowerShape, tiles: NDArray[np.float32], precision: Precision
) -> None:
    """Check that each tile gives its image tokens, whatever tiles are computed with it."""
    try:
        session = open_session(path)
    except GraphError as err:
        if type(err.__cause__).__name__ == "NotImplemented":  # onnxruntime's own
            raise UnsupportedModelError(
                f"{source} needs what this ONNX Runtime does not run on a CPU; a newer one may, or "
                f"take the fp16 or quantized tower: {err.__cause__}"
            ) from err
        raise GraphError(f"{source} cannot be run: {err.__cause__ or err}") from err
    expected = [1, shape.image_tokens, shape.embedding_width]
    alone = []
    for tile in tiles:
        tokens = _run(session, source, tile[None])
        if len(tokens) != 1:
            raise GraphError(
                f"{source} gives the tokens of {len(tokens)} tiles for one, perhaps since it takes "
                "tiles of zeros for padding"
            )
        if list(tokens.shape) != expected:
            raise AssemblyError(
                f"{source} makes image tokens {list(tokens.shape)} of a tile, expected {expected}"
            )
        if not np.isfinite(tokens).all():
            raise GraphError(f"{source} makes image tokens that are not finite")
        alone.append(tokens)
    apart = np.concatenate(alone)
    together = _run(session, source, tiles)
    if together.shape != apart.shape:
        raise GraphError(
            f"{source} makes image tokens {list(together.shape)} of {len(tiles)} tiles, expected "
            f"{list(apart.shape)}: it does not take any number of tiles"
        )
    difference = _relative_error(together, apart)
    if not difference <= _TILE_LIMITS[precision]:
        raise GraphError(
            f"{source} mixes its tiles: the tokens of one differ by {difference:.3g} with others "
            "beside it"
        )


def _run(session: Any, source: Path, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
    try:
        return run_graph(session, tiles)
    except GraphError as err:
        size = " x ".join(map(str, tiles.shape[2:]))
        raise GraphError(
            f"{source} fails on tiles of {size} pixels, which may not be those that it was "
            f"exported for: {err}"
        ) from err


def _projector_error(
    probe: Path, source: Path, tiles: NDArray[np.float32], projector: ProjectorArrays
) -> float:
    """Compare the graph's image tokens with those that numpy makes of its features."""
    made = run_outputs(open_any_session(probe), tiles)
    features, tokens = made[FEATURES], made[OUTPUT]
    wanted = tokens.shape[1] * projector.factor**2, projector.vision_width
    if features.shape[1:] != wanted:
        raise AssemblyError(
            f"{source} makes features {list(features.shape)} of a tile, and the projector takes "
            f"{[1, *wanted]}"
        )
    return _relative_error(tokens, projector.project(features).astype(np.float32))


def _relative_error(actual: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    largest = float(np.abs(reference).max())
    return max_abs_error(actual, reference) / (largest or 1.0)
