"""Models with a recurrent state in real llama.cpp: the tiny ones are what they are meant to be."""

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from tiny.hybrid import write_lfm2, write_qwen35
from tiny.llama import PADDING_ROWS, Tensors
from tiny.tokenizer import write_tokenizer

from edge_et.export.llm.llama_for_tools import decode, loaded_model, native_library, open_context
from edge_et.export.llm.llama_logits import llama_logits
from edge_et.llm import read_shape

POSITIONS = 100  # more than the 64 of a chunk that gated delta nets are evaluated in


@pytest.mark.parametrize("write", [write_lfm2, write_qwen35])
@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
def test_a_batch_has_the_logits_of_single_tokens(
    tmp_path: Path, write: Callable[..., Tensors], kind: str
) -> None:
    write_tokenizer(tmp_path / "tokenizer.json")
    path = tmp_path / "model.gguf"
    stored = gguf.GGMLQuantizationType[kind]
    rows = len(write(path, tmp_path / "tokenizer.json", seed=3, kind=stored)["token_embd.weight"])
    ids = np.random.default_rng(0).integers(0, rows - PADDING_ROWS, POSITIONS, dtype=np.int32)
    (batch,) = llama_logits(path, [ids.tolist()])
    single = []
    with loaded_model(path) as model, open_context(model, path, POSITIONS) as context:
        for position in range(POSITIONS):
            place = np.array([position], np.int32)
            decode(context, path, ids[position : position + 1], place, outputs=True)
            logits = native_library().llama_get_logits(context)
            single.append(np.ctypeslib.as_array(logits, shape=(rows,)).copy())
    readable = np.s_[:, :-PADDING_ROWS]
    assert np.abs(batch[readable] - np.array(single)[readable]).max() < 1e-3
    # A model that writes the same at all positions would not show a wrong state.
    assert len(set(batch[readable].argmax(axis=1))) > POSITIONS // 4


@pytest.mark.parametrize("write", [write_lfm2, write_qwen35])
def test_the_shape_tells_what_a_sequence_takes(
    tmp_path: Path, write: Callable[..., Tensors]
) -> None:
    write_tokenizer(tmp_path / "tokenizer.json")
    path = tmp_path / "model.gguf"
    write(path, tmp_path / "tokenizer.json", seed=3)
    shape = read_shape(path)
    llama_cpp = native_library()
    sizes = []
    with loaded_model(path) as model, open_context(model, path, POSITIONS) as context:
        for length in (1, POSITIONS - 1):
            places = np.arange(len(sizes), len(sizes) + length, dtype=np.int32)
            decode(context, path, np.zeros(length, np.int32), places, outputs=False)
            sizes.append(
                [
                    llama_cpp.llama_state_seq_get_size_ext(context, 0, flags)
                    for flags in (0, llama_cpp.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY)
                ]
            )
    (_, state), (whole, state_again) = sizes
    assert state == state_again
    assert 0 <= state - shape.state_bytes < 256  # what llama.cpp tells of it besides
    keys_and_values = shape.kv_bytes(POSITIONS, "f32")
    assert 0 <= whole - state - keys_and_values < 32 * POSITIONS
