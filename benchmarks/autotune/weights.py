"""Convert weights to another format, with the adapter merged in.

In: a GGUF and perhaps a LoRA for it. Out: one GGUF. Quantizing what was quantized before adds the
noise of the second format to that of the first. The search decides whether that is bearable.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_et.errors import BenchError
from edge_et.export.steps import Progress, atomic_output, needing_extra, no_progress

with needing_extra("bench"):
    import gguf

    from edge_et.export.llm.gguf_writer import GgufTensor, write_gguf
    from edge_et.quantize.llama_quantizer import run_quantizer

FORMATS = ("Q8_0", "Q4_0", "Q4_K_M", "IQ4_NL")
"""Those that llama.cpp has fast kernels for, on one processor or another, for one row and many."""

_OWN_KEYS = ("GGUF.", "general.architecture", "general.file_type", "general.quantization_version")


def convert(weights: Path, adapter: Path | None, out: Path, quantization: str) -> None:
    """Write weights in another format.

    Args:
        weights: a GGUF of any type.
        adapter: a LoRA for it, merged with scale 1; None: there is none.
        out: the GGUF to write.
        quantization: one of `FORMATS`.

    Raises:
        BenchError: the adapter is not one for these weights.
        QuantizationError: llama.cpp refuses.
    """
    with atomic_output(out) as temporary:
        source = weights
        if adapter is not None:
            source = temporary.with_suffix(".f16.gguf")
            merge(weights, adapter, source)
        run_quantizer(source, temporary, quantization, requantize=True)


def merge(weights: Path, adapter: Path, out: Path, progress: Progress = no_progress) -> None:
    """Add a LoRA to the weights it was made for; matrices become F16.

    Args:
        weights: a GGUF of any type.
        adapter: a LoRA as GGUF: `W + alpha / rank * B A` is what llama.cpp computes with it.
        out: the GGUF to write.
        progress: told the bytes written.

    Raises:
        BenchError: the adapter names a tensor that is not there, or of another shape.
    """
    base, lora = gguf.GGUFReader(weights), gguf.GGUFReader(adapter)
    alpha = float(lora.fields["adapter.lora.alpha"].contents())
    halves = {tensor.name: tensor.data.astype(np.float32) for tensor in lora.tensors}
    tensors = []
    for tensor in base.tensors:
        shape = tuple(int(size) for size in reversed(tensor.shape))
        down = halves.pop(f"{tensor.name}.lora_a", None)
        up = halves.pop(f"{tensor.name}.lora_b", None)
        load: Callable[[], NDArray[np.float32]] = partial(_values, tensor, shape)
        if down is not None and up is not None:
            if (len(up), down.shape[1]) != shape:
                raise BenchError(f"{adapter} is no adapter for {weights}: {tensor.name} differs")
            load = partial(_merged, load, alpha / len(down), up, down)
        tensors.append(
            GgufTensor(
                name=tensor.name,
                shape=shape,
                storage="F16" if len(shape) > 1 else "F32",
                load=load,
            )
        )
    if halves:
        raise BenchError(f"{adapter} is no adapter for {weights}: it has {min(halves)}")
    architecture = base.fields["general.architecture"].contents()
    write_gguf(out, architecture, partial(_copy_keys, base), tensors, progress)


def _values(tensor: gguf.ReaderTensor, shape: tuple[int, ...]) -> NDArray[np.float32]:
    values: NDArray[np.float32] = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    return values.reshape(shape)


def _merged(
    load: Callable[[], NDArray[np.float32]],
    scale: float,
    up: NDArray[np.float32],
    down: NDArray[np.float32],
) -> NDArray[np.float32]:
    return load() + np.float32(scale) * (up @ down)


def _copy_keys(base: gguf.GGUFReader, writer: gguf.GGUFWriter) -> None:
    for name, found in base.fields.items():
        if name.startswith(_OWN_KEYS):
            continue
        kind: Any = found.types[0]
        inner = found.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, found.contents(), kind, sub_type=inner)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
