"""Any-resolution: the rules of the goldens' checkpoint, and a tiny bundle that cuts into tiles."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edge_et.bundle import (
    FileRef,
    Manifest,
    Processing,
    Tiling,
    VisionSpec,
    file_ref,
    save_manifest,
)
from edge_et.image import load_image
from tiny.bundle import build_bundle
from tiny.llama import WIDTH
from tiny.places import GOLDEN
from tiny.tower import write_tower

LLAVA = VisionSpec(
    graph=FileRef(path="vision.onnx", size_bytes=1, sha256="0" * 64),
    embedding_width=128,
    image_tokens_per_tile=729,
    processing=Processing(
        height=384,
        width=384,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        rescale=1 / 255,
        resample="bicubic",
        fit="squash",
        tiling=Tiling(
            grids=tuple((columns, rows) for columns in range(1, 7) for rows in range(1, 7)),
            shrink_over_tiles=9,
        ),
    ),
    arrangement="unpadded",
)
"""As ``image_aspect_ratio`` anyres_max_9 and ``mm_patch_merge_type`` spatial_unpad say it."""


def golden(name: str) -> dict[str, NDArray[Any]]:
    with np.load(GOLDEN / "llava" / f"{name}.npz") as content:
        return dict(content)


def golden_image(name: str) -> Image.Image:
    return load_image(GOLDEN / "images" / f"{name}.png")


def edited(spec: VisionSpec, tiling: dict[str, Any] | None = None, **changes: Any) -> VisionSpec:
    """Change fields of a spec, and of its tiling."""
    processing = spec.processing
    if tiling is not None:
        assert processing.tiling is not None
        changed = msgspec.structs.replace(processing.tiling, **tiling)
        processing = msgspec.structs.replace(processing, tiling=changed)
    return msgspec.structs.replace(spec, processing=processing, **changes)


def build_tiled_bundle(folder: Path, *, context_length: int = 512) -> Manifest:
    """Write the tiny bundle with tiles of 32 pixels on grids up to 3 x 3, and a newline token."""
    manifest = build_bundle(folder, context_length=context_length)
    write_tower(folder / "vision.onnx", width=WIDTH, newline=True)
    processing = msgspec.structs.replace(
        manifest.vision.processing,
        tiling=Tiling(
            grids=tuple((columns, rows) for columns in (1, 2, 3) for rows in (1, 2, 3)),
            shrink_over_tiles=4,
        ),
    )
    vision = msgspec.structs.replace(
        manifest.vision,
        graph=file_ref(folder / "vision.onnx"),
        processing=processing,
        arrangement="unpadded",
    )
    manifest = msgspec.structs.replace(manifest, name="tiled", vision=vision)
    save_manifest(manifest, folder)
    return manifest
