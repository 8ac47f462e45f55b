"""Popular models that no bundle can hold are refused by what they do, not by a list of others."""

import json
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from edge_et.export.errors import UnsupportedModelError
from edge_et.export.families import refused
from edge_et.export.families.llm_registry import FAMILIES, identify_gguf
from edge_et.export.families.vlm_registry import LAYOUTS, find_layout, read_llm

MODELS = [
    ("Qwen3VLForConditionalGeneration", "DeepStack"),
    ("GraniteDoclingForConditionalGeneration", "DeepStack"),
    ("Granite4VisionForConditionalGeneration", "DeepStack"),
    ("Gemma3ForConditionalGeneration", "attend to those behind them"),
    ("PaliGemmaForConditionalGeneration", "attend to those behind them"),
    ("HfMoondream", "attend to those behind them"),
    ("Florence2ForConditionalGeneration", "encoder"),
    ("VisionEncoderDecoderModel", "encoder"),
    ("T5ForConditionalGeneration", "encoder"),
    ("MllamaForConditionalGeneration", "cross-attention"),
]


def checkpoint(folder: Path, architecture: str) -> Path:
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    return folder


@pytest.mark.parametrize(("architecture", "reason"), MODELS)
def test_a_checkpoint_is_refused_with_the_reason(
    tmp_path: Path, architecture: str, reason: str
) -> None:
    folder = checkpoint(tmp_path, architecture)
    for read in (find_layout, read_llm):
        with pytest.raises(UnsupportedModelError, match=f"{architecture}, which .*{reason}"):
            read(folder)


def test_a_gguf_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "qwen3-vl.gguf"
    writer = gguf.GGUFWriter(path, "qwen3vl")
    writer.add_tensor("token_embd.weight", np.zeros((64, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UnsupportedModelError, match=r"'qwen3vl', which .*DeepStack"):
        identify_gguf(path)


def test_building_ends_with_the_reason(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, "Qwen3VLForConditionalGeneration")
    save_file({"weight": np.zeros(1, np.float32)}, folder / "model.safetensors")
    command = [
        sys.executable,
        "-m",
        "edge_et",
        "build",
        "--perceiver",
        folder,
        "--out",
        tmp_path / "bundle",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "DeepStack" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "bundle").exists()


def test_what_can_be_exported_is_not_refused() -> None:
    known = {*FAMILIES, *LAYOUTS}
    known |= {gguf.MODEL_ARCH_NAMES[family.architecture] for family in FAMILIES.values()}
    assert not [name for name in known if refused.why_refused(name)]
