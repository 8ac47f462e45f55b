"""Which input channels of a model's matrices matter: what llama.cpp calls an importance matrix.

In: a GGUF and prompts. Out: for each matrix of its layers the mean square of what comes in by each
channel, while llama.cpp reads the prompts. The quantizer then rounds the weights of loud channels
more carefully; the smallest types are useless without.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_et.export.errors import NativeModelError, QuantizationError
from edge_et.export.llm.llama_for_tools import loaded_model, native_library, open_context
from edge_et.export.llm.llama_logits import llama_tokens, read_prompt, require_runs
from edge_et.export.steps import Progress, no_progress
from edge_et.llm import Segment, TokenSegment, count_positions
from edge_et.quantize.ggml_tensors import (
    TYPE_F32,
    operation,
    require_known_layout,
    rows_of,
    tensor_at,
)

Importance = Mapping[str, NDArray[np.float32]]
"""By the GGUF's name of a matrix: `[input channels] float32`, mean square of the inputs."""

_PRODUCT = b"MUL_MAT"
_LAYERS = b"blk."


def read_prompts(path: Path, model: Path) -> list[tuple[Segment, ...]]:
    """Read prompts from a text file.

    Args:
        path: UTF-8, with an empty line between two prompts; special tokens are special.
        model: the GGUF whose vocabulary they are written in.

    Returns:
        One or more prompts.

    Raises:
        QuantizationError: the file cannot be read, or holds nothing.
        NativeModelError: the GGUF is damaged, or llama.cpp cannot run it.
    """
    try:
        texts = re.split(r"\n\s*\n", path.read_text(encoding="utf-8").strip())
    except (OSError, ValueError) as err:
        raise QuantizationError(f"{path} cannot be read as text: {err}") from err
    if texts == [""]:
        raise QuantizationError(f"{path} holds no prompts")
    require_runs(model)
    return [(TokenSegment(tuple(ids)),) for ids in llama_tokens(model, texts, special=True)]


def collect_importance(
    model: Path,
    prompts: Sequence[Sequence[Segment]],
    *,
    threads: int | None = None,
    progress: Progress = no_progress,
) -> Importance:
    """Read prompts and add up what comes into each matrix.

    The output matrix is left out, as in llama.cpp's own tool: weighting its channels makes it
    worse.

    Args:
        model: a GGUF in F32, F16 or BF16.
        prompts: segments of tokens and images, of the kind that the model shall be good at.
        threads: CPU threads; None: all CPUs of this process.
        progress: told the prompts.

    Returns:
        The importance of each matrix's input channels.

    Raises:
        QuantizationError: there are no prompts.
        NativeModelError: the model cannot be run, its activations are not finite, or the installed
            llama.cpp keeps its tensors in another form.
    """
    if not prompts:
        raise QuantizationError("an importance matrix needs prompts to read")
    require_known_layout()
    watcher = _Watcher(model)
    callback = native_library().ggml_backend_sched_eval_callback(watcher.see)
    longest = max(map(count_positions, prompts))
    with (
        loaded_model(model) as loaded,
        open_context(loaded, model, longest, threads, callback) as context,
    ):
        for number, prompt in enumerate(prompts):
            progress("read prompts", number, len(prompts))
            for _ in read_prompt(context, model, prompt):
                pass
    progress("read prompts", len(prompts), len(prompts))
    return watcher.importance()


class _Watcher:
    """Adds up the squares of what comes into each matrix product with a layer's weights."""

    def __init__(self, model: Path) -> None:
        self._model = model
        self._sums: dict[bytes, NDArray[np.float64]] = {}
        self._rows: Counter[bytes] = Counter()
        self._error: Exception | None = None

    def see(self, address: int, ask: bool, user_data: object) -> bool:
        """Say whether a tensor is wanted, when asked; else take it and let llama.cpp go on.

        No exception may leave this function: ctypes would print it and forget it.
        """
        try:
            return self._look(address, ask)
        except Exception as err:
            self._error = err
            return not ask

    def importance(self) -> Importance:
        """Give the means so far, or raise what `see` had to keep to itself."""
        if self._error is not None:
            raise self._error
        result = {}
        for name, sums in self._sums.items():
            means = (sums / self._rows[name]).astype(np.float32)
            if not np.isfinite(means).all():
                raise NativeModelError(f"{self._model}: what comes into {name!r} is not finite")
            result[name.decode()] = means
        return result

    def _look(self, address: int, ask: bool) -> bool:
        if operation(address) != _PRODUCT:
            return not ask
        weights, inputs = map(tensor_at, tensor_at(address).src[:2])
        wanted = weights.name.startswith(_LAYERS) and inputs.type == TYPE_F32
        if wanted and not ask:
            rows = rows_of(inputs).astype(np.float64)
            self._sums[weights.name] = self._sums.get(weights.name, 0.0) + (rows**2).sum(axis=0)
            self._rows[weights.name] += len(rows)
        return wanted or not ask
