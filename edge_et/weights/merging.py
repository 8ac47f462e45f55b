"""The same weights in one GGUF that engines run fastest: LoRA merged, matrices in Q8_0.

In: a GGUF, and perhaps a LoRA for it. Out: a GGUF with the same metadata and tensors, byte for byte
the same wherever it is made. One block of rows is in memory at a time. Whether what it computes is
near enough is not known here.
"""

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edge_et.bundle import GgufTensor, read_gguf
from edge_et.errors import ModelFileError
from edge_et.weights.tensors import (
    GgufTensors,
    Lora,
    Step,
    UnknownTypeError,
    multiply,
    no_step,
    open_tensors,
    quantize,
)

RECIPE: Final = 1
"""Counted up whenever the same files shall become other bytes."""

_MAGIC = b"GGUF"
_F16, _Q8_0 = 1, 8  # ggml's numbers
_BLOCK_VALUES, _BLOCK_BYTES = 32, 34  # of Q8_0


def merged_bytes(weights: Path) -> int:
    """Return how large what `merge` writes would be, without its single rows.

    Raises:
        ModelFileError: the file is damaged.
        UnreadableFileError: it cannot be read.
    """
    head = read_gguf(weights)
    matrices = (tensor for tensor in head.tensors if len(tensor.shape) > 1)
    return head.size_bytes + sum(_size(tensor, _new_kind(tensor)) for tensor in matrices)


def merge(weights: Path, adapter: Path | None, target: Path, *, step: Step = no_step) -> None:
    """Write weights with their LoRA merged, as llama.cpp applies it with scale 1.

    Matrices become Q8_0, those whose rows are no whole blocks of 32 become F16. What is a single
    row stays as it is, whatever the LoRA has for it, and so does a matrix in Q8_0 without a LoRA.

    Args:
        weights: a GGUF.
        adapter: a LoRA for it; None: only the form changes.
        target: the GGUF to write, in place of what is there.
        step: is called every few milliseconds; what it raises ends the work.

    Raises:
        ModelFileError: a file is damaged, a tensor has a type that the package gguf cannot read, or
            the adapter is no LoRA or one for other weights.
        UnreadableFileError: a file cannot be read.
        OSError: the target cannot be written.
    """
    tensors, lora = open_tensors(weights, adapter, step)
    odd = {lora.unknown, *(name for name in lora.names if name not in tensors)} - {""}
    if odd and adapter is not None:
        raise ModelFileError(adapter, f"its {min(odd)} cannot be merged into {weights.name}")
    try:
        with target.open("wb") as file:
            file.write(_head(tensors))
            for tensor in tensors.head.tensors:
                for block in _converted(tensors, lora, tensor):
                    file.write(block.data)
                file.write(bytes(-file.tell() % tensors.head.alignment))
    except UnknownTypeError as err:
        raise ModelFileError(weights, f"it cannot be converted: {err}") from err


def _head(tensors: GgufTensors) -> bytes:
    """Return everything before the tensors: the metadata as it is, and where they will lie."""
    head = tensors.head
    count = len(head.tensors)
    parts = [_MAGIC, struct.pack("<IQQ", head.version, count, head.key_count), tensors.metadata()]
    offset = 0
    for tensor in head.tensors:
        name, sides = tensor.name.encode(), tensor.shape[::-1]
        kind = _new_kind(tensor)
        parts += [struct.pack("<Q", len(name)), name, struct.pack("<I", len(sides))]
        parts.append(struct.pack(f"<{len(sides)}QIQ", *sides, kind, offset))
        size = tensors.raw(tensor.name).nbytes if kind == tensor.kind else _size(tensor, kind)
        offset += size + -size % head.alignment
    written = b"".join(parts)
    return written + bytes(-len(written) % head.alignment)


def _converted(tensors: GgufTensors, lora: Lora, tensor: GgufTensor) -> Iterator[NDArray[np.uint8]]:
    """Yield the new bytes of a tensor."""
    halves = lora.halves(tensor)
    if halves is None and _new_kind(tensor) == tensor.kind:
        yield tensors.raw(tensor.name)
        return
    for rows, block in tensors.blocks(tensor.name):
        values = block
        if halves is not None:
            scale, down, up = halves
            # In float64, so that the order of the sums does not show: it depends on the CPU.
            added = multiply(up[rows].astype(np.float64), down.T.astype(np.float64))
            values = block + (scale * added).astype(np.float32)
        yield quantize(values, _new_kind(tensor))


def _new_kind(tensor: GgufTensor) -> int:
    if len(tensor.shape) == 1:
        return tensor.kind
    return _F16 if tensor.shape[-1] % _BLOCK_VALUES else _Q8_0


def _size(tensor: GgufTensor, kind: int) -> int:
    count = math.prod(tensor.shape)
    return 2 * count if kind == _F16 else count // _BLOCK_VALUES * _BLOCK_BYTES
