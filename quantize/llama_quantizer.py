"""Run llama.cpp's own quantizer. In: a GGUF. Out: the same model in fewer bits."""

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_et.export.errors import QuantizationError
from edge_et.export.llm.llama_for_tools import native_errors, native_library
from edge_et.threads import choose_threads

_BUFFER_BYTES = 2**28  # of a tensor's rows at once, as read, in float32 and quantized; else 8 GiB


def run_quantizer(
    source: Path,
    out: Path,
    quantization: str,
    *,
    importance: Mapping[str, NDArray[np.float32]] | None = None,
    threads: int = 0,
    requantize: bool = False,
) -> None:
    """Quantize a GGUF.

    Args:
        source: the GGUF.
        out: the GGUF to write.
        quantization: a type's name, such as ``Q4_0``.
        importance: by tensor, the mean square of each input; None: all count the same.
        threads: CPU threads; 0: all CPUs of this process.
        requantize: whether the source may be quantized already.

    Raises:
        OptionError: `threads` is out of its range.
        QuantizationError: the source is not there, or llama.cpp refuses it.
    """
    if not source.is_file():
        raise QuantizationError(f"{source} does not exist")
    llama_cpp = native_library()
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{quantization}")
    params.nthread = choose_threads(threads or None)
    params.max_buf_size = _BUFFER_BYTES
    params.allow_requantize = requantize
    if importance is not None:
        # A list that ends with an entry without a name; llama.cpp copies it.
        entries = (llama_cpp.llama_model_imatrix_data * (len(importance) + 1))()
        for entry, (name, means) in zip(entries, importance.items(), strict=False):
            entry.name = name.encode()
            entry.data = means.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            entry.size = len(means)
        params.imatrix = entries
    code = llama_cpp.llama_model_quantize(
        os.fsencode(source), os.fsencode(out), ctypes.byref(params)
    )
    if code:
        reason = native_errors()
        raise QuantizationError(f"llama.cpp cannot quantize {source} to {quantization}{reason}")
