"""Write a model of random weights as a GGUF, in the types of llama.cpp's Q4_0.

Matrices are Q4_0. The output matrix, which most often is the embeddings too, is Q6_K, or Q8_0 where
a row is no whole blocks of Q6_K, as llama.cpp's own quantizer stores it. Quantized blocks are drawn
as they are stored, so nothing has to be quantized. Their scales keep the activations in range.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from edge_et.benchmarks.synthetic.shapes import DeltaNetShape, LlmShape, ShortConvolutionShape
from edge_et.benchmarks.synthetic.synthetic_tokenizer import SPECIAL
from edge_et.export.steps import Progress, needing_extra

with needing_extra("bench"):
    import gguf

    from edge_et.export.llm.gguf_writer import write_tensors

Storage = Literal["F32", "Q4_0", "Q6_K", "Q8_0"]

# What a block holds (ggml-common.h, block_q4_0, block_q6_K, block_q8_0), and the standard deviation
# of the numbers that random bits mean: uniform over 16, 64 and 255 values.
_Q4_0 = np.dtype([("scale", "<f2"), ("bits", "u1", 16)])
_Q6_K = np.dtype([("bits", "u1", 192), ("scales", "i1", 16), ("scale", "<f2")])
_Q8_0 = np.dtype([("scale", "<f2"), ("levels", "i1", 32)])
_Q4_0_DEVIATION = sqrt((16**2 - 1) / 12)
_Q6_K_DEVIATION = sqrt((64**2 - 1) / 12)
_Q6_K_SCALE = 32
_Q8_0_DEVIATION = sqrt((255**2 - 1) / 12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor to be written.

    Attributes:
        name: its name in the GGUF.
        shape: numpy order; the last axis is what a row holds.
        storage: how it is stored.
        value: of all its numbers, where it is not drawn, as it is not in F32.
    """

    name: str
    shape: tuple[int, ...]
    storage: Storage
    value: float = 1.0

    stored_dtype: ClassVar = np.dtype(np.uint8)

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Its shape, the last axis in bytes."""
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[self.storage]]
        return (*self.shape[:-1], self.shape[-1] // block * size)

    @property
    def size_bytes(self) -> int:
        """Bytes of the stored values."""
        return int(np.prod(self.stored_shape))


def tensors_of(shape: LlmShape) -> Iterator[Tensor]:
    """Yield the tensors of a model, in the order of its file."""
    width, queries = shape.width, shape.heads * shape.head_width
    keys = shape.kv_heads * shape.head_width
    block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType.Q6_K][0]
    output: Storage = "Q8_0" if width % block else "Q6_K"
    table = (shape.rows, width)
    yield Tensor(name="token_embd.weight", shape=table, storage=output if shape.tied else "Q4_0")
    last_norm = "output_norm" if shape.short_convolutions is None else "token_embd_norm"
    yield Tensor(name=f"{last_norm}.weight", shape=(width,), storage="F32")
    if not shape.tied:
        yield Tensor(name="output.weight", shape=table, storage=output)
    if shape.delta_net is not None:
        yield from _hybrid_layers(shape, shape.delta_net)
        return
    if shape.short_convolutions is not None:
        yield from _lfm2_layers(shape, shape.short_convolutions)
        return
    matrices = {
        "attn_q": (queries, width),
        "attn_k": (keys, width),
        "attn_v": (keys, width),
        "attn_output": (width, queries),
        "ffn_gate": (shape.feed_forward, width),
        "ffn_up": (shape.feed_forward, width),
        "ffn_down": (width, shape.feed_forward),
    }
    norms = {"attn_norm": width, "ffn_norm": width}
    if shape.architecture == "qwen3":
        norms |= {"attn_q_norm": shape.head_width, "attn_k_norm": shape.head_width}
    for layer in range(shape.layers):
        for name, size in norms.items():
            yield Tensor(name=f"blk.{layer}.{name}.weight", shape=(size,), storage="F32")
        for name, sizes in matrices.items():
            yield Tensor(name=f"blk.{layer}.{name}.weight", shape=sizes, storage="Q4_0")


def _hybrid_layers(shape: LlmShape, net: DeltaNetShape) -> Iterator[Tensor]:
    """Yield the layers of a Qwen3.5, whose state forgets and whose convolutions average."""
    width, queries = shape.width, shape.heads * shape.head_width
    keys, values = shape.kv_heads * shape.head_width, net.value_heads * net.head_width
    mixed = 2 * net.key_heads * net.head_width + values
    shared = {
        "ffn_gate": (shape.feed_forward, width),
        "ffn_up": (shape.feed_forward, width),
        "ffn_down": (width, shape.feed_forward),
    }
    attention = {
        "attn_q": (2 * queries, width),
        "attn_k": (keys, width),
        "attn_v": (keys, width),
        "attn_output": (width, queries),
    }
    recurrent = {
        "attn_qkv": (mixed, width),
        "attn_gate": (values, width),
        "ssm_beta": (net.value_heads, width),
        "ssm_alpha": (net.value_heads, width),
        "ssm_out": (width, values),
    }
    norms = {"attn_norm": width, "post_attention_norm": width}
    head_norms = {"attn_q_norm": shape.head_width, "attn_k_norm": shape.head_width}
    for layer in range(shape.layers):
        attends = (layer + 1) % net.every == 0
        others = head_norms if attends else {"ssm_norm": net.head_width}
        for name, size in (norms | others).items():
            yield Tensor(name=f"blk.{layer}.{name}.weight", shape=(size,), storage="F32")
        for name, sizes in (shared | (attention if attends else recurrent)).items():
            yield Tensor(name=f"blk.{layer}.{name}.weight", shape=sizes, storage="Q4_0")
        if attends:
            continue
        heads, kernel = (net.value_heads,), (mixed, net.kernel)
        yield Tensor(name=f"blk.{layer}.ssm_dt.bias", shape=heads, storage="F32")
        yield Tensor(name=f"blk.{layer}.ssm_a", shape=heads, storage="F32", value=-0.1)
        yield Tensor(
            name=f"blk.{layer}.ssm_conv1d.weight",
            shape=kernel,
            storage="F32",
            value=1 / sqrt(net.kernel),
        )


def _lfm2_layers(shape: LlmShape, convolutions: ShortConvolutionShape) -> Iterator[Tensor]:
    """Yield the layers of an LFM2."""
    width, keys = shape.width, shape.kv_heads * shape.head_width
    shared = {
        "ffn_gate": (shape.feed_forward, width),
        "ffn_up": (shape.feed_forward, width),
        "ffn_down": (width, shape.feed_forward),
    }
    attention = {
        "attn_q": (width, width),
        "attn_k": (keys, width),
        "attn_v": (keys, width),
        "attn_output": (width, width),
    }
    convolution = {"shortconv.in_proj": (3 * width, width), "shortconv.out_proj": (width, width)}
    norms = {"attn_norm": width, "ffn_norm": width}
    head_norms = {"attn_q_norm": shape.head_width, "attn_k_norm": shape.head_width}
    for layer in range(shape.layers):
        attends = layer in convolutions.attention
        for name, size in (norms | head_norms if attends else norms).items():
            yield Tensor(name=f"blk.{layer}.{name}.weight", shape=(size,), storage="F32")
        for name, sizes in (shared | (attention if attends else convolution)).items():
            yield Tensor(name=f"blk.{layer}.{name}.weight", shape=sizes, storage="Q4_0")
        if not attends:
            yield Tensor(
                name=f"blk.{layer}.shortconv.conv.weight",
                shape=(width, convolutions.kernel),
                storage="F32",
                value=1 / sqrt(convolutions.kernel),
            )


def write_llm(
    path: Path, shape: LlmShape, tokenizer: dict[str, Any], seed: int, progress: Progress
) -> None:
    """Write a model, one tensor in memory at a time.

    Args:
        path: the GGUF.
        shape: its dimensions.
        tokenizer: content of its tokenizer.json.
        seed: of the weights.
        progress: told the bytes of the tensors.
    """
    random = np.random.default_rng(seed)

    def add_metadata(writer: gguf.GGUFWriter) -> None:
        _add_metadata(writer, shape)
        _add_tokenizer(writer, shape, tokenizer)

    write_tensors(
        path,
        shape.architecture,
        add_metadata,
        list(tensors_of(shape)),
        lambda tensor: _draw(tensor, random),
        progress,
    )


def _add_metadata(writer: gguf.GGUFWriter, shape: LlmShape) -> None:
    writer.add_name(f"{shape.name}, random weights")
    writer.add_context_length(40_960)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    convolutions = shape.short_convolutions
    if convolutions is None:
        writer.add_head_count_kv(shape.kv_heads)
    else:
        by_layer = [shape.kv_heads * (n in convolutions.attention) for n in range(shape.layers)]
        writer.add_head_count_kv(by_layer)
        writer.add_shortconv_l_cache(convolutions.kernel)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    net = shape.delta_net
    writer.add_rope_dimension_count(shape.head_width if net is None else net.rotary_width)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    if net is not None:
        writer.add_full_attention_interval(net.every)
        writer.add_rope_dimension_sections([*net.rope_sections, 0])
        writer.add_ssm_conv_kernel(net.kernel)
        writer.add_ssm_state_size(net.head_width)
        writer.add_ssm_group_count(net.key_heads)
        writer.add_ssm_time_step_rank(net.value_heads)
        writer.add_ssm_inner_size(net.value_heads * net.head_width)


def _add_tokenizer(writer: gguf.GGUFWriter, shape: LlmShape, tokenizer: dict[str, Any]) -> None:
    model, added = tokenizer["model"], tokenizer["added_tokens"]
    texts = {number: text for text, number in model["vocab"].items()}
    special = {token["id"]: token["content"] for token in added}
    known = texts | special
    kinds = [
        gguf.TokenType.CONTROL
        if row in special
        else gguf.TokenType.NORMAL
        if row in known
        else gguf.TokenType.UNUSED
        for row in range(shape.rows)
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([known.get(row, f"[PAD{row}]") for row in range(shape.rows)])
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    ids = {text: number for number, text in special.items()}
    writer.add_eos_token_id(ids[SPECIAL[-1]])
    writer.add_add_bos_token(False)


def _draw(tensor: Tensor, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return the bytes of a tensor whose rows, times normal numbers, give normal numbers."""
    if tensor.storage == "F32":
        return np.full(tensor.shape, tensor.value, np.float32).view(np.uint8)
    stored = np.frombuffer(random.bytes(tensor.size_bytes), np.uint8).copy()
    stored = stored.reshape(tensor.stored_shape)
    deviation = 1 / sqrt(tensor.shape[-1])
    if tensor.storage == "Q4_0":
        stored.view(_Q4_0)["scale"] = deviation / _Q4_0_DEVIATION
    elif tensor.storage == "Q8_0":
        blocks = stored.view(_Q8_0)
        blocks["scale"] = deviation / _Q8_0_DEVIATION
        # No quantizer writes -128, and kernels that negate levels do not expect it.
        np.maximum(blocks["levels"], -127, out=blocks["levels"])
    else:
        blocks = stored.view(_Q6_K)
        blocks["scales"] = _Q6_K_SCALE
        blocks["scale"] = deviation / _Q6_K_DEVIATION / _Q6_K_SCALE
    return stored
