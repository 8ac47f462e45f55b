"""ggml's tensors as they are being computed, through ctypes.

In: addresses that llama.cpp hands to a callback. Out: operation, sources, names, values. The layout
of a tensor is none of llama.cpp's promises, so a probe tells whether it is the one below.
"""

import ctypes
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_et.export.errors import NativeModelError
from edge_et.export.llm.llama_for_tools import native_library

TYPE_F32 = 0


class Tensor(ctypes.Structure):
    """`struct ggml_tensor` of ggml.h, ggml 0.25."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("buffer", ctypes.c_void_p),
        ("ne", ctypes.c_int64 * 4),
        ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int),
        ("op_params", ctypes.c_int32 * 16),
        ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10),
        ("view_src", ctypes.c_void_p),
        ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p),
        ("name", ctypes.c_char * 64),
        ("extra", ctypes.c_void_p),
        ("padding", ctypes.c_char * 8),
    )


class _InitParams(ctypes.Structure):
    """`struct ggml_init_params`."""

    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


def tensor_at(address: int) -> Any:
    """Give the tensor at an address; it is valid as long as llama.cpp keeps it."""
    return Tensor.from_address(address)


def operation(address: int) -> bytes:
    """Name what computes the tensor at an address, such as `b"MUL_MAT"`."""
    described: bytes = _library().ggml_op_desc(address)
    return described


def rows_of(tensor: Any) -> NDArray[np.float32]:
    """Give the values of an F32 tensor in the machine's memory, `[rows, width]`; a view."""
    first = ctypes.cast(tensor.data, ctypes.POINTER(ctypes.c_float))
    every = np.lib.stride_tricks.as_strided(
        np.ctypeslib.as_array(first, (1,)), tuple(tensor.ne[::-1]), tuple(tensor.nb[::-1])
    )
    return every.reshape(-1, every.shape[-1])


def require_known_layout() -> None:
    """Check that the installed ggml lays its tensors out as above.

    Raises:
        NativeModelError: it does not.
    """
    library = _library()
    pool = library.ggml_init(_InitParams(2**16, None, False))
    try:
        weights, inputs = (library.ggml_new_tensor_2d(pool, TYPE_F32, 3, rows) for rows in (2, 5))
        library.ggml_set_name(weights, b"probe")
        product = library.ggml_mul_mat(pool, weights, inputs)
        tensor = tensor_at(inputs)
        found = (
            operation(product),
            tensor_at(product).src[:3],
            tensor_at(weights).name,
            (tensor.type, tensor.ne[:], tensor.nb[:], tensor.data),
        )
        expected = (
            b"MUL_MAT",
            [weights, inputs, None],
            b"probe",
            (TYPE_F32, [3, 5, 1, 1], [4, 12, 60, 60], library.ggml_get_data(inputs)),
        )
    finally:
        library.ggml_free(pool)
    if found != expected:
        raise NativeModelError(
            "the installed llama-cpp-python keeps its tensors in a form that is not known, so an "
            "importance matrix cannot be collected; 0.3.36 is known to work"
        )


@functools.cache
def _library() -> Any:
    # A handle of our own to what llama_cpp has loaded, which has no public bindings of ggml.
    library = ctypes.CDLL(native_library().llama_cpp._lib._name)
    address = ctypes.c_void_p
    library.ggml_op_desc.argtypes, library.ggml_op_desc.restype = [address], ctypes.c_char_p
    library.ggml_init.argtypes, library.ggml_init.restype = [_InitParams], address
    library.ggml_free.argtypes = [address]
    library.ggml_set_name.argtypes = [address, ctypes.c_char_p]
    library.ggml_get_data.argtypes, library.ggml_get_data.restype = [address], address
    library.ggml_mul_mat.argtypes, library.ggml_mul_mat.restype = [address] * 3, address
    library.ggml_new_tensor_2d.argtypes = [address, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    library.ggml_new_tensor_2d.restype = address
    return library
