"""Tensors of a GGUF as float32, some rows at a time, with a LoRA's halves beside them.

In: checked files. Out: rows. What they are for is not known here.
"""

import math
import mmap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edge_et.bundle import GgufHead, GgufTensor, read_gguf
from edge_et.errors import ModelFileError

F = TypeVar("F", np.float32, np.float64)

Step = Callable[[], object]
"""Is called before every block of rows; what it raises ends the work."""


def no_step() -> None:
    """Go on."""


_BLOCK_VALUES = 2**18  # 1 MB as float32, which caches hold

# OpenBLAS, which comes with numpy, computes products up to this size in the thread that asks
# (SMP_THRESHOLD_MIN times GEMM_MULTITHREAD_THRESHOLD in interface/gemm.c). Its other threads look
# for work without sleeping: beside busy programs 48 tokens took the mini 34 s instead of 4.
_ONE_THREAD = 65536 * 4

_LORA_KEYS = ("adapter.type", "adapter.lora.alpha", "adapter.lora.task_name")
_LORA_PARTS = (".lora_a", ".lora_b")


class UnknownTypeError(Exception):
    """A tensor has a type that the package gguf cannot read; the message names both."""


class GgufTensors:
    """The tensors of one file, which is mapped.

    Attributes:
        path: the file.
        head: what it says about itself.
    """

    def __init__(self, path: Path, step: Step) -> None:
        """See `open_tensors`."""
        self.path = path
        self.head: GgufHead = read_gguf(path)
        with path.open("rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._step = step
        self._tensors = {tensor.name: tensor for tensor in self.head.tensors}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> GgufTensor:
        return self._tensors[name]

    def metadata(self) -> bytes:
        """Return all keys and values as they lie in the file."""
        return self._data[self.head.metadata]

    def raw(self, name: str) -> NDArray[np.uint8]:
        """Return a tensor's bytes.

        Returns:
            [rows, n] uint8: rows of the last dimension.

        Raises:
            ModelFileError: the file ends before them, or its rows are no whole blocks.
            UnknownTypeError: nobody knows how long they are.
        """
        tensor = self[name]
        size, rows = row_bytes(tensor), math.prod(tensor.shape[:-1])
        if size is None or tensor.start + rows * size > len(self._data):
            raise ModelFileError(self.path, f"its tensor {name} is cut off: get it again")
        values = np.frombuffer(self._data, np.uint8, rows * size, tensor.start)
        return values.reshape(rows, -1)

    def blocks(self, name: str) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield a tensor block by block.

        Yields:
            Which rows, and [rows, width] float32.

        Raises:
            ModelFileError: as for `raw`.
            UnknownTypeError: as for `raw`.
        """
        raw, tensor = self.raw(name), self[name]
        count = max(1, _BLOCK_VALUES // tensor.shape[-1])
        for start in range(0, len(raw), count):
            self._step()
            part = slice(start, min(start + count, len(raw)))
            yield part, _dequantize(raw[part], tensor)

    def values(self, name: str) -> NDArray[np.float32]:
        """Return a small tensor whole, in its shape."""
        return _dequantize(self.raw(name), self[name]).reshape(self[name].shape)

    def rows(self, name: str, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return some rows of a matrix, [n, width] float32."""
        return _dequantize(self.raw(name)[numbers], self[name])


class Lora:
    """The halves of a LoRA: `W + scale * B A` is what llama.cpp computes with it.

    Attributes:
        names: the tensors that it has halves for.
        unknown: a key or tensor that means something else; empty: there is none.
    """

    def __init__(self, tensors: GgufTensors | None, weights: GgufTensors) -> None:
        """Check what llama.cpp does, and read no values yet.

        Args:
            tensors: of the adapter; None: there is none.
            weights: what it has to be made for.

        Raises:
            ModelFileError: it is no LoRA, or one for other weights.

        Source:
            llama_adapter_lora_init_impl in src/llama-adapter.cpp of llama.cpp.
        """
        self._tensors = tensors
        self.names: set[str] = set()
        self.unknown = ""
        self._alpha = 0.0
        if tensors is None:
            return
        values = tensors.head.values
        _check_kind(tensors, weights)
        self._alpha = values.get("adapter.lora.alpha", 0.0)
        odd = [key for key in values if key.startswith("adapter.") and key not in _LORA_KEYS]
        for name in (tensor.name for tensor in tensors.head.tensors):
            base, part = name[: -len(_LORA_PARTS[0])], name[-len(_LORA_PARTS[0]) :]
            is_pair = all(f"{base}{half}" in tensors for half in _LORA_PARTS)
            # A LoRA of the embeddings has its halves the other way round.
            if part in _LORA_PARTS and is_pair and base != "token_embd.weight":
                self.names.add(base)
            else:
                odd.append(name)
        self.unknown = min(odd, default="")
        for name in sorted(self.names):
            if name in weights:
                _check_shapes(tensors, weights[name])

    def halves(self, tensor: GgufTensor) -> tuple[float, NDArray[Any], NDArray[Any]] | None:
        """Return what is added to a matrix.

        Args:
            tensor: [out, in], or [width], to which llama.cpp adds nothing.

        Returns:
            The scale, A [rank, in] and B [out, rank] float32; None: nothing is.
        """
        if self._tensors is None or tensor.name not in self.names or len(tensor.shape) == 1:
            return None
        down, up = (self._tensors.values(f"{tensor.name}{part}") for part in _LORA_PARTS)
        return (self._alpha / len(down) if self._alpha else 1.0), down, up


def _check_kind(adapter: GgufTensors, weights: GgufTensors) -> None:
    """Check that metadata say of an adapter that it is a LoRA for such weights."""
    architecture = weights.head.values["general.architecture"]
    expected = {
        "general.type": "adapter",
        "general.architecture": architecture,
        "adapter.type": "lora",
    }
    values = adapter.head.values
    for key, value in expected.items():
        if (found := values.get(key)) != value:
            reason = f"it is no adapter for these weights: its {key} is {found!r}, not {value!r}"
            raise ModelFileError(adapter.path, reason)
    alpha = values.get("adapter.lora.alpha", 0.0)
    if not isinstance(alpha, float):
        reason = "it is no adapter for these weights: its adapter.lora.alpha is no float32"
        raise ModelFileError(adapter.path, reason)


def _check_shapes(adapter: GgufTensors, tensor: GgufTensor) -> None:
    """Check that both halves for a tensor fit it and each other."""
    down, up = (adapter[f"{tensor.name}{part}"].shape for part in _LORA_PARTS)
    expected = (1, *tensor.shape) if len(tensor.shape) == 1 else tensor.shape
    if len(down) != 2 or len(up) != 2 or (up[0], down[1]) != expected:
        reason = f"it is no adapter for these weights: {tensor.name} has another shape"
        raise ModelFileError(adapter.path, reason)
    if up[1] != down[0]:
        reason = (
            f"its halves for {tensor.name} are of the ranks {down[0]} and {up[1]}: get it again"
        )
        raise ModelFileError(adapter.path, reason)


def open_tensors(weights: Path, adapter: Path | None, step: Step) -> tuple[GgufTensors, Lora]:
    """Map a model and its adapter, whose heads are checked.

    Args:
        weights: a GGUF.
        adapter: a LoRA for it; None: there is none.
        step: see `Step`.

    Raises:
        ModelFileError: one of them is damaged, or the adapter was made for other weights.
        UnreadableFileError: one of them cannot be read.
    """
    halves = None if adapter is None else GgufTensors(adapter, step)
    tensors = GgufTensors(weights, step)
    return tensors, Lora(halves, tensors)


def row_bytes(tensor: GgufTensor) -> int | None:
    """Return the bytes of a row of a tensor; None: it is no whole blocks.

    Raises:
        UnknownTypeError: the package gguf does not know its type.
    """
    import gguf

    try:
        kind = gguf.GGMLQuantizationType(tensor.kind)
    except ValueError as err:
        raise UnknownTypeError(f"{tensor.name} is of type {tensor.kind}") from err
    try:
        return int(gguf.quants.quant_shape_to_byte_shape(tensor.shape[-1:], kind)[0])
    except ValueError:
        return None


def multiply(left: NDArray[F], right: NDArray[F]) -> NDArray[F]:
    """Return a product of matrices, computed by this thread alone.

    Args:
        left: [n, k].
        right: [m, k], that is, transposed.

    Returns:
        [n, m].
    """
    count, width = right.shape
    group = max(1, _ONE_THREAD // (len(left) * width))
    whole = count - count % group
    product = np.empty((len(left), count), right.dtype)
    groups = right[:whole].reshape(-1, group, width).swapaxes(1, 2)
    product[:, :whole] = (left @ groups).swapaxes(0, 1).reshape(len(left), whole)
    product[:, whole:] = left @ right[whole:].T
    return product


def quantize(values: NDArray[np.float32], kind: int) -> NDArray[np.uint8]:
    """Return values in another type, as bytes.

    Args:
        values: whole blocks.
        kind: ggml's number of the type.
    """
    import gguf

    raw = gguf.quantize(values.reshape(1, -1), gguf.GGMLQuantizationType(kind))
    return np.asarray(raw).view(np.uint8)


def _dequantize(raw: NDArray[np.uint8], tensor: GgufTensor) -> NDArray[np.float32]:
    import gguf

    kind = gguf.GGMLQuantizationType(tensor.kind)
    try:
        # In one row, since gguf goes through sixteen rows at a time.
        values: NDArray[np.float32] = gguf.dequantize(raw.reshape(1, -1), kind)
    except NotImplementedError as err:
        raise UnknownTypeError(f"{tensor.name} is of type {kind.name}") from err
    return values.reshape(len(raw), -1)
