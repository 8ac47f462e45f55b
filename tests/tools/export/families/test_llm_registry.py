"""The registry of LLM families, and the config that a GGUF gives back."""

from collections.abc import Callable
from pathlib import Path

import gguf
import msgspec
import numpy as np
import pytest

from edge_et.export.errors import UnreadableCheckpointError, UnsupportedModelError
from edge_et.export.families.llm_family import tensor_shapes
from edge_et.export.families.llm_registry import FAMILIES, config_of_gguf, family_of
from edge_et.export.families.vlm_registry import read_llm
from edge_et.export.llm.export_llm import export_llm


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_gguf_gives_back_the_tensors_of_its_checkpoint(
    make_llm: Callable[..., Path], tmp_path: Path, family: str, tied: bool
) -> None:
    folder = make_llm(family, tied=tied)
    config = read_llm(folder).config
    out = export_llm(folder, tmp_path / "out.gguf", dtype="F16", check_logits=False).path
    found = config_of_gguf(out)
    assert family_of(found) is family_of(config)
    assert tensor_shapes(family_of(found), found) == tensor_shapes(family_of(config), config)
    assert found.rope_parameters == config.rope_parameters
    assert found.key_value_heads == config.key_value_heads


def test_an_architecture_of_no_family_lists_those_that_exist(llama_folder: Path) -> None:
    config = read_llm(llama_folder).config
    for architectures in (["MambaForCausalLM"], [], ["LlamaForCausalLM", "Qwen3ForCausalLM"]):
        with pytest.raises(UnsupportedModelError, match=f"known: {', '.join(FAMILIES)}"):
            family_of(msgspec.structs.replace(config, architectures=architectures))


def test_what_is_no_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.gguf"
    path.write_text("This is no GGUF, and it is long enough to have a header.")
    with pytest.raises(UnreadableCheckpointError, match="cannot be read as a GGUF"):
        config_of_gguf(path)


def test_an_embedding_table_is_a_matrix(tmp_path: Path) -> None:
    path = tmp_path / "flat.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for add in (writer.add_block_count, writer.add_context_length, writer.add_feed_forward_length):
        add(8)
    writer.add_embedding_length(32)
    writer.add_head_count(2)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["a"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_tensor("token_embd.weight", np.zeros(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UnreadableCheckpointError, match="the embedding table has 1 axes"):
        config_of_gguf(path)
