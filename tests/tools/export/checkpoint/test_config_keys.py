"""What transformers 4 and 5 write differently is read alike, or refused where it contradicts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from tiny.vlm import ONEVISION, edit_config, edit_tensors, write_onevision
from transformers import InternVLConfig, LlamaConfig, Mistral3Config, Qwen2Config, Qwen3Config

from edge_et.export.building.vlm_checkpoint import load_tower, read_vlm
from edge_et.export.checkpoint.config_keys import read_config, read_image_processor
from edge_et.export.errors import UnreadableCheckpointError, UnsupportedModelError
from edge_et.export.families.llm_family import ROPE_THETA
from edge_et.export.families.vlm_registry import read_llm
from edge_et.export.llm.export_llm import export_llm

BASE = 50_000.0
FULL, SLIDING = {"rope_theta": BASE, "rope_type": "default"}, {"rope_theta": 2e4}
BOTH = ["full_attention", "full_attention"]


def base_of(folder: Path) -> float:
    out = folder.parent / "out.gguf"
    export_llm(folder, out, check_logits=False)
    fields = gguf.GGUFReader(out).fields
    prefix = fields["general.architecture"].contents()
    return float(fields[f"{prefix}.rope.freq_base"].contents())


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize(
    "spelling",
    [
        {"rope_theta": BASE},
        {"rope_theta": BASE, "rope_scaling": None},
        {"rope_theta": BASE, "rope_scaling": {"type": "default"}},
        {"rope_parameters": FULL},
        {"rope_parameters": FULL, "rope_theta": BASE},
        {"rope_parameters": {"full_attention": FULL, "sliding_attention": FULL}},
        {"rope_parameters": {"full_attention": FULL, "sliding_attention": SLIDING}} | {
            "layer_types": BOTH
        },
        {"rope_parameters": {"full_attention": FULL, "sliding_attention": None}} | {
            "layer_types": BOTH
        },
    ],
)  # fmt: skip
def test_the_base_of_each_spelling_is_in_the_gguf(
    make_llm: Callable[..., Path], family: str, spelling: dict[str, Any]
) -> None:
    folder = make_llm(family)
    edit_config(folder, **{"rope_parameters": None, "layer_types": None} | spelling)
    assert base_of(folder) == BASE


@pytest.mark.parametrize("config", [LlamaConfig, Qwen2Config, Qwen3Config])
def test_a_config_without_a_base_has_that_of_its_class(config: Any) -> None:
    assert config().rope_parameters["rope_theta"] == ROPE_THETA


@pytest.mark.parametrize("empty", [None, {}, {"rope_type": "default"}])
def test_a_config_without_a_base_is_exported_with_the_default(
    make_llm: Callable[..., Path], empty: Any
) -> None:
    folder = make_llm("qwen3")
    edit_config(folder, rope_parameters=empty)
    assert base_of(folder) == ROPE_THETA


@pytest.mark.parametrize(
    ("spelling", "error", "match"),
    [
        (
            {"rope_theta": 1e6},
            UnreadableCheckpointError,
            "rope_theta is 1000000.0 by rope_theta and 50000.0 by rope_parameters: keep the one",
        ),
        (
            {"rope_scaling": {"rope_theta": 1e6}},
            UnreadableCheckpointError,
            "1000000.0 by rope_scaling and 50000.0 by rope_parameters",
        ),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}},
            UnreadableCheckpointError,
            "rope_type is 'linear' by rope_scaling and 'default' by rope_parameters",
        ),
        (
            {"rope_parameters": FULL | {"type": "yarn"}},
            UnreadableCheckpointError,
            "rope_parameters is 'default' by rope_type and 'yarn' by type",
        ),
        ({"rope_parameters": [1]}, UnreadableCheckpointError, "rope_parameters is no object"),
        ({"rope_theta": "x"}, UnreadableCheckpointError, "rope_theta is 'x'"),
        (
            {"rope_parameters": {"rope_theta": BASE, "rope_type": "linear", "factor": 2.0}},
            UnsupportedModelError,
            "rope type 'linear'",
        ),
        (
            {"rope_parameters": None, "rope_theta": BASE, "rope_scaling": {"type": "dynamic"}},
            UnsupportedModelError,
            "rope type 'dynamic'",
        ),
        (
            {"rope_parameters": {"full_attention": FULL, "sliding_attention": SLIDING}},
            UnsupportedModelError,
            "other rope_parameters in layers of full_attention, sliding_attention",
        ),
        (
            {"rope_parameters": {"sliding_attention": SLIDING}, "layer_types": BOTH},
            UnreadableCheckpointError,
            "tells nothing of layers of full_attention",
        ),
    ],
)
def test_what_contradicts_or_would_be_lost_is_refused(
    make_llm: Callable[..., Path], spelling: dict[str, Any], error: type[Exception], match: str
) -> None:
    folder = make_llm("llama")
    edit_config(folder, **spelling)
    with pytest.raises(error, match=match):
        read_llm(folder)


@pytest.fixture
def onevision(tmp_path: Path) -> Path:
    return write_onevision(tmp_path / "onevision")


def nested(part: str, **changes: Any) -> dict[str, Any]:
    content = json.loads((ONEVISION / "config.json").read_text())
    return {part: content[part] | changes}


def test_the_base_of_a_language_model_inside(onevision: Path) -> None:
    edit_config(onevision, **nested("text_config", rope_theta=None, rope_parameters=FULL))
    assert read_llm(onevision).config.rope_parameters.rope_theta == BASE
    edit_config(onevision, **nested("text_config", rope_theta=1e6, rope_parameters=FULL))
    with pytest.raises(UnreadableCheckpointError, match=r"text_config\.rope_theta is 1000000"):
        read_llm(onevision)


@pytest.mark.parametrize(
    ("outer", "inner", "tied"),
    [(True, False, True), (False, True, True), (None, True, True), (True, None, True),
     (False, False, False), (None, None, False)],
)  # fmt: skip
def test_a_tie_counts_at_either_level(
    onevision: Path, outer: bool | None, inner: bool | None, tied: bool
) -> None:
    text = nested("text_config", tie_word_embeddings=inner)["text_config"]
    text = {key: value for key, value in text.items() if value is not None}
    edit_config(onevision, text_config=text, tie_word_embeddings=outer)
    assert read_llm(onevision).config.tie_word_embeddings is tied


@pytest.mark.parametrize("config", [InternVLConfig, Mistral3Config])
def test_models_that_are_tied_by_default(config: Any, tmp_path: Path) -> None:
    assert config().tie_word_embeddings
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": config.model_type, "text_config": {}}))
    assert read_config(path)["text_config"]["tie_word_embeddings"]
    edit_config(tmp_path, tie_word_embeddings=False)
    assert not read_config(path)["text_config"]["tie_word_embeddings"]


def test_the_type_of_the_tensors_has_one_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"torch_dtype": "bfloat16", "text_config": {}}')
    assert read_config(tmp_path / "config.json")["dtype"] == "bfloat16"


def test_the_image_processor_inside_the_processor_is_read(onevision: Path) -> None:
    expected = read_vlm(onevision).vision.processing
    alone = onevision / "preprocessor_config.json"
    inner = json.loads(alone.read_text())
    edit_config(onevision, "processor_config.json", image_processor=inner)
    assert read_vlm(onevision).vision.processing == expected  # both are there, and agree
    edit_config(onevision, "preprocessor_config.json", image_mean=[0.1, 0.2, 0.3])
    with pytest.raises(UnreadableCheckpointError, match=r"image_mean is \[0.1, 0.2, 0.3\] by pre"):
        read_vlm(onevision)
    alone.unlink()
    assert read_vlm(onevision).vision.processing == expected
    edit_config(onevision, "processor_config.json", image_processor=7)
    with pytest.raises(UnreadableCheckpointError, match="image_processor is no object"):
        read_image_processor(onevision)
    edit_config(onevision, "processor_config.json", image_processor=None)
    with pytest.raises(UnreadableCheckpointError, match=r"preprocessor_config\.json cannot be"):
        read_vlm(onevision)


def test_the_tower_has_two_names(onevision: Path) -> None:
    expected = load_tower(read_vlm(onevision)).state_dict()
    older = "vision_tower.vision_model."

    def rename(tensors: Any) -> None:
        for name in [name for name in tensors if name.startswith(older)]:
            tensors[f"vision_tower.{name.removeprefix(older)}"] = tensors.pop(name)

    edit_tensors(onevision, rename)
    found = load_tower(read_vlm(onevision)).state_dict()
    assert all(found[name].equal(values) for name, values in expected.items())
    twice = "vision_tower.post_layernorm.bias"
    edit_tensors(onevision, lambda t: t.update({f"{older}post_layernorm.bias": t[twice].clone()}))
    with pytest.raises(UnreadableCheckpointError, match=r"holds post_layernorm\.bias twice"):
        read_vlm(onevision)


def test_a_tokenizer_as_transformers_5_writes_it(onevision: Path) -> None:
    expected = read_vlm(onevision)
    path = onevision / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    extra = settings.pop("additional_special_tokens")
    settings.pop("added_tokens_decoder")
    settings |= {"tokenizer_class": "TokenizersBackend", "extra_special_tokens": extra}
    path.write_text(json.dumps(settings))
    for name in ("special_tokens_map.json", "added_tokens.json"):
        (onevision / name).unlink()
    assert read_vlm(onevision).chat_format == expected.chat_format
    reports = [
        export_llm(folder, onevision.parent / f"{number}.gguf", check_logits=False).path
        for number, folder in enumerate([onevision, write_onevision(onevision.parent / "older")])
    ]
    assert reports[0].read_bytes() == reports[1].read_bytes()
