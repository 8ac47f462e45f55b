"""Rules of tiles of many sizes, as LFM2-VL has them, and what transformers made by such."""

import json
from pathlib import Path
from typing import Any

import msgspec

from edge_et.bundle import (
    FileRef,
    Manifest,
    MarkupSpec,
    Processing,
    Tiling,
    VisionSpec,
    WholeSize,
    file_ref,
    save_manifest,
)
from tiny.bundle import build_bundle
from tiny.llama import WIDTH
from tiny.places import DATA
from tiny.tower import write_tower_of_sizes

REFERENCE: dict[str, Any] = json.loads((DATA / "tiling" / "lfm2_vl.json").read_text())
"""How transformers cuts and marks pictures; write_lfm2_vl.py beside it wrote it."""

_DEFAULTS = {
    "encoder_patch_size": 16,
    "downsample_factor": 2,
    "tile_size": 512,
    "min_tiles": 2,
    "max_tiles": 10,
    "min_image_tokens": 64,
    "max_image_tokens": 256,
    "max_pixels_tolerance": 2.0,
}
_START, _END, _WHOLE = "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>"
_TILE = "<|img_row_{row}_col_{column}|>"


def sized_spec(settings: dict[str, Any], width: int = 4) -> VisionSpec:
    """Return the rules that settings of the image processor mean."""
    told = _DEFAULTS | settings
    block = told["encoder_patch_size"] * told["downsample_factor"]
    tile, most = told["tile_size"], told["max_tiles"]
    grids = [
        (columns, rows)
        for columns in range(1, most + 1)
        for rows in range(1, most + 1)
        if told["min_tiles"] <= columns * rows <= most
    ]
    grids.sort(key=lambda grid: grid[0] * grid[1])
    places = [
        _TILE.format(row=row, column=column)
        for columns, rows in grids
        for row in range(1, rows + 1)
        for column in range(1, columns + 1)
    ]
    tokens = (_START, _END, _WHOLE, *dict.fromkeys(places))
    over = told["max_image_tokens"] * block**2 * told["max_pixels_tolerance"]
    return VisionSpec(
        graph=FileRef(path="vision.onnx", size_bytes=1, sha256="0" * 64),
        embedding_width=width,
        image_tokens_per_tile=(tile // block) ** 2,
        processing=Processing(
            height=tile,
            width=tile,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            rescale=1 / 255,
            resample="bilinear",
            fit="squash",
            tiling=Tiling(rule="ratio", grids=tuple(grids), over_pixels=int(over), whole="last"),
            whole_size=WholeSize(
                block=block,
                min_tokens=told["min_image_tokens"],
                max_tokens=told["max_image_tokens"],
            ),
        ),
        arrangement="flat",
        markup=MarkupSpec(
            tokens=tokens, start=(_START,), tile=(_TILE,), whole=(_WHOLE,), alone=(), end=(_END,)
        ),
    )


def build_sized_bundle(folder: Path, *, context_length: int = 512) -> Manifest:
    """Write the tiny bundle with the small rules of tiles, 8 pixels a block."""
    manifest = build_bundle(folder, context_length=context_length)
    spec = sized_spec(REFERENCE["small"]["settings"], WIDTH)
    assert spec.markup is not None
    graph = folder / "vision.onnx"
    write_tower_of_sizes(graph, width=WIDTH, markup=len(spec.markup.tokens))
    vision = msgspec.structs.replace(spec, graph=file_ref(graph))
    manifest = msgspec.structs.replace(manifest, name="sized", vision=vision)
    save_manifest(manifest, folder)
    return manifest
