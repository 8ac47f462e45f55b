"""Checkpoints that transformers 4 and 5 wrote, held to what each of them computed of its own."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tiny import numpy_llm
from tiny.places import ROOT
from transformers import AutoModelForCausalLM, AutoTokenizer

from edge_et.export.building.vlm_checkpoint import export_vlm_vision, read_vlm
from edge_et.export.llm.export_llm import MAX_LOGIT_ERROR, export_llm
from edge_et.export.llm.llama_logits import llama_logits
from edge_et.export.vision.export_tower import MAX_TOKEN_ERROR
from edge_et.export.vision.onnx_graph import OUTPUT, open_session, run_outputs
from edge_et.image import choose_grid, split_tiles, to_pixel_values
from edge_et.llm import Tokenizer

DATA = ROOT / "tests" / "data" / "generations"
TRUE_BASE = {"llama": 5e5, "qwen2": 1e6, "qwen3": 1e6, "onevision": 1e6}
TEXTS = ("Two birds sit on a wire: 7 left, 5 right.", "na\u00efve caf\u00e9\n\tdef f(x):")
WITNESSED = list(range(3, 123))
"""Ids of a sequence that is long enough for a wrong base to show."""
MAX_WITNESS_ERROR = 1e-3

generations = pytest.mark.parametrize("generation", ["4", "5"])
families = pytest.mark.parametrize("family", list(TRUE_BASE))


Exported = tuple[Path, list[NDArray[np.float32]]]


@pytest.fixture(scope="module", params=[(g, f) for g in "45" for f in TRUE_BASE], ids="-".join)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A checkpoint, and what llama.cpp computes of its export: two texts, and `WITNESSED`."""
    folder = DATA.joinpath(*request.param)
    golden = np.load(folder / "golden.npz")
    out = tmp_path_factory.mktemp("gguf") / "out.gguf"
    export_llm(folder, out, dtype="F32", check_logits=False)
    fields = gguf.GGUFReader(out).fields
    prefix = fields["general.architecture"].contents()
    assert fields[f"{prefix}.rope.freq_base"].contents() == TRUE_BASE[folder.name]
    sequences = [*(golden[f"ids{number}"].tolist() for number in (0, 1)), WITNESSED]
    return folder, list(llama_logits(out, sequences))


def test_exported_logits_are_those_that_the_writer_computed(exported: Exported) -> None:
    folder, logits = exported
    golden = np.load(folder / "golden.npz")
    for number in (0, 1):
        assert np.abs(logits[number][::3] - golden[f"logits{number}"]).max() < MAX_LOGIT_ERROR


def test_a_witness_that_reads_no_config_agrees(exported: Exported) -> None:
    folder, logits = exported
    eps = 1e-5 if folder.name == "llama" else 1e-6
    expected, wrong = (
        numpy_llm.logits(folder, WITNESSED, heads=4, base=base, eps=eps)
        for base in (TRUE_BASE[folder.name], 10_000.0)
    )
    assert np.abs(logits[2] - expected).max() < MAX_WITNESS_ERROR
    assert np.abs(logits[2] - wrong).max() > 100 * MAX_WITNESS_ERROR


@generations
@families
def test_token_ids_are_those_of_the_writer(generation: str, family: str) -> None:
    folder = DATA / generation / family
    golden = np.load(folder / "golden.npz")
    runtime = Tokenizer(folder / "tokenizer.json")
    reference = AutoTokenizer.from_pretrained(folder)
    for number, text in enumerate(TEXTS):
        expected = golden[f"ids{number}"].tolist()
        assert list(runtime.encode(text)) == expected
        assert reference(text).input_ids == expected


@families
def test_both_generations_compute_the_same(family: str) -> None:
    older, newer = (np.load(DATA / generation / family / "golden.npz") for generation in "45")
    assert older.files == newer.files
    for name in older.files:
        np.testing.assert_allclose(older[name], newer[name], rtol=0, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_transformers_5_computes_the_same_of_what_4_wrote(family: str) -> None:
    folder = DATA / "4" / family
    golden = np.load(folder / "golden.npz")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = model(torch.tensor(golden["ids0"][None])).logits[0].numpy()
    np.testing.assert_allclose(logits[::3], golden["logits0"], rtol=0, atol=2e-5)


@generations
def test_pixel_values_and_image_tokens_are_those_of_the_writer(
    generation: str, tmp_path: Path
) -> None:
    folder = DATA / generation / "onevision"
    golden = np.load(folder / "golden.npz")
    model = read_vlm(folder)
    picture = Image.fromarray(golden["picture"])
    tiles = split_tiles(
        picture, model.vision.processing, choose_grid(picture.size, model.vision.processing, None)
    )
    pixel_values = np.stack([to_pixel_values(tile, model.vision.processing) for tile in tiles])
    np.testing.assert_allclose(pixel_values, golden["pixel_values"], rtol=0, atol=1e-6)
    report = export_vlm_vision(model, tmp_path / "vision.onnx")
    tokens = run_outputs(open_session(report.path), pixel_values)[OUTPUT]
    assert np.abs(tokens - golden["image_tokens"]).max() < MAX_TOKEN_ERROR


def test_the_two_generations_are_spelled_differently() -> None:
    for family in TRUE_BASE:
        older, newer = (
            json.loads((DATA / generation / family / "config.json").read_text())
            for generation in "45"
        )
        inner = [config.get("text_config", config) for config in (older, newer)]
        assert "rope_theta" in inner[0]
        assert "rope_theta" not in inner[1]
        assert inner[1]["rope_parameters"]["rope_theta"] == TRUE_BASE[family]
