"""The synthetic tower as llama.cpp reads towers: a multimodal projector file (mmproj), a GGUF.

In: the dimensions and the seed that the ONNX graph has. Out: the same numbers, float32, under the
names and settings of llama.cpp's tools/mtmd/clip.cpp. There, the projector "mlp" is LLaVA's: its
Gelu is the approximation by tanh, where the graph has the exact one.
"""

from pathlib import Path

import numpy as np

from edge_et.benchmarks.synthetic.onnx_file import Constant
from edge_et.benchmarks.synthetic.shapes import TowerShape
from edge_et.benchmarks.synthetic.tower import NORM_EPSILON, new_tower
from edge_et.export.steps import Progress, needing_extra

with needing_extra("bench"):
    import gguf

MMPROJ_NAME = "mmproj.gguf"
"""In a bundle's folder; no part of the bundle itself."""


def write_mmproj(
    path: Path, shape: TowerShape, llm_width: int, seed: int, progress: Progress
) -> None:
    """Write the file, one tensor in memory at a time.

    Args:
        path: the GGUF.
        shape: the tower's dimensions.
        llm_width: D, width of an image token.
        seed: of the weights, as in the ONNX graph.
        progress: told the bytes of the tensors.
    """
    weights = [
        constant
        for constant in new_tower(shape, llm_width, seed).constants
        if constant.name.endswith((".weight", ".bias"))
    ]
    total = sum(constant.size_bytes for constant in weights)
    done = 0
    writer = gguf.GGUFWriter(path, "clip")
    try:
        _add_settings(writer, shape, llm_width)
        for constant in weights:
            writer.add_tensor_info(
                constant.name,
                constant.shape[::-1] if _is_matrix(constant) else constant.shape,
                np.dtype(np.float32),
                constant.size_bytes,
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for constant in weights:
            values = constant.make()
            stored = values.T if _is_matrix(constant) else values
            writer.write_tensor_data(np.ascontiguousarray(stored))
            done += constant.size_bytes
            progress(f"write {shape.name} for llama.cpp", done, total)
    finally:
        writer.close()


def _is_matrix(constant: Constant) -> bool:
    """Return whether rows are multiplied with it; llama.cpp has such matrices transposed."""
    return len(constant.shape) == 2 and constant.name != "v.position_embd.weight"


def _add_settings(writer: gguf.GGUFWriter, shape: TowerShape, llm_width: int) -> None:
    writer.add_type(gguf.GGUFType.MMPROJ)
    writer.add_name(f"{shape.name}, random weights")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type("mlp")
    writer.add_vision_projection_dim(llm_width)
    writer.add_vision_image_size(shape.image)
    writer.add_vision_patch_size(shape.patch)
    writer.add_vision_embedding_length(shape.width)
    writer.add_vision_feed_forward_length(shape.feed_forward)
    writer.add_vision_block_count(shape.layers)
    # Otherwise the last of the layers would not run.
    writer.add_array("clip.vision.feature_layer", [shape.layers])
    writer.add_vision_head_count(shape.heads)
    writer.add_vision_attention_layernorm_eps(NORM_EPSILON)
    writer.add_vision_image_mean([0.5] * 3)
    writer.add_vision_image_std([0.5] * 3)
    writer.add_vision_use_gelu(True)
