"""Write the synthetic tower for llama.cpp: a multimodal projector file (mmproj), a GGUF.

In: the dimensions and the seed that the ONNX graph has. Out: the same numbers under the names and
settings of llama.cpp's tools/mtmd/clip.cpp, matrices in Q8_0, or in F16 where a row is no whole
blocks of Q8_0, as llama.cpp's own tools have it. There, Gelu is the approximation by tanh, also in
projectors and in InternViT, where the graph has the exact one.
"""

from pathlib import Path

import numpy as np

from edge_et.benchmarks.synthetic.layouts import LAYOUTS
from edge_et.benchmarks.synthetic.random_onnx import Constant
from edge_et.benchmarks.synthetic.random_tower import (
    CLASS_TOKEN,
    NORM_EPSILON,
    matrix_scale,
    new_tower,
)
from edge_et.benchmarks.synthetic.shapes import TowerShape
from edge_et.export.steps import Progress, needing_extra

with needing_extra("bench"):
    import gguf

MMPROJ_NAME = "mmproj.gguf"
"""In a bundle's folder; no part of the bundle itself."""


def write_mmproj(
    path: Path, shape: TowerShape, llm_width: int, seed: int, progress: Progress
) -> None:
    """Write the file; up to 256 MB of it are in memory before they go to a temporary file.

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
        if constant.name.endswith((".weight", ".bias", CLASS_TOKEN))
    ]
    total = sum(constant.size_bytes for constant in weights)
    done = 0
    writer = gguf.GGUFWriter(path, "clip", use_temp_file=True)
    try:
        _add_settings(writer, shape, llm_width)
        for constant in weights:
            _add_tensor(writer, constant)
            done += constant.size_bytes
            progress(f"write {shape.name} for llama.cpp", done, total)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _add_tensor(writer: gguf.GGUFWriter, constant: Constant) -> None:
    values = constant.values()
    if values.dtype != np.int8:
        writer.add_tensor(constant.name, values)
        return
    # llama.cpp has the matrices that rows are multiplied with transposed.
    matrix = values.T.astype(np.float32) * np.float32(matrix_scale(len(values)))
    if len(values) % gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType.Q8_0][0]:
        writer.add_tensor(constant.name, matrix.astype(np.float16))
    else:
        storage = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(constant.name, gguf.quants.quantize(matrix, storage), raw_dtype=storage)


def _add_settings(writer: gguf.GGUFWriter, shape: TowerShape, llm_width: int) -> None:
    writer.add_type(gguf.GGUFType.MMPROJ)
    writer.add_name(f"{shape.name}, random weights")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(shape.projector)
    writer.add_vision_projection_dim(llm_width)
    writer.add_vision_image_size(shape.image)
    writer.add_vision_patch_size(shape.patch)
    writer.add_vision_embedding_length(shape.width)
    writer.add_vision_feed_forward_length(shape.feed_forward)
    writer.add_vision_block_count(shape.layers)
    layout = LAYOUTS[shape.projector]
    if shape.projector == "mlp":
        # Otherwise the last of the layers would not run.
        writer.add_array("clip.vision.feature_layer", [shape.layers])
    else:
        writer.add_vision_projector_scale_factor(shape.shuffle)
    if layout.edge_tiles > 1:
        writer.add_vision_preproc_image_size(layout.edge_tiles * shape.image)
    writer.add_vision_head_count(shape.heads)
    writer.add_vision_attention_layernorm_eps(NORM_EPSILON)
    writer.add_vision_image_mean(layout.mean)
    writer.add_vision_image_std(layout.std)
    writer.add_vision_use_gelu(True)
