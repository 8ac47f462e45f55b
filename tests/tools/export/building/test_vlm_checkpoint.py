"""What the readers make of settings and tensors, and what they refuse."""

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny.vlm import (
    LLAVA,
    ONEVISION,
    TOWER,
    Tensors,
    edit_config,
    edit_tensors,
    llava_tensors,
    onevision_tensors,
    write_checkpoint,
    write_onevision,
)
from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from edge_et.export.building.vlm_checkpoint import (
    export_vlm_vision,
    load_tower,
    read_vlm,
    vision_tower_beside,
)
from edge_et.export.errors import (
    LeftoverTensorError,
    MissingTensorError,
    TensorShapeError,
    TensorValueError,
    UnreadableCheckpointError,
    UnsupportedModelError,
)
from edge_et.export.llm.export_llm import MAX_LOGIT_ERROR, export_llm
from edge_et.export.llm.llama_logits import llama_logits
from edge_et.export.vision.torch_tower import TowerWithProjector

SO400M = "google/siglip-so400m-patch14-384"
PIXELS = torch.randn(1, 3, 384, 384, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def llava(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "llava", LLAVA, llava_tensors())


@pytest.fixture
def onevision(tmp_path: Path) -> Path:
    return write_onevision(tmp_path / "onevision")


def image_tokens(tower: TowerWithProjector) -> torch.Tensor:
    with torch.inference_mode():
        made = tower(PIXELS)
    return made if isinstance(made, torch.Tensor) else made[0]


def export_both(folder: Path, out: Path) -> None:
    export_vlm_vision(read_vlm(folder), out / "vision.onnx")
    export_llm(folder, out / "llm.gguf", check_logits=False)


def refused(folder: Path, error: type[Exception], match: str) -> None:
    """Expect an export to fail, and no file to be left."""
    out = folder.parent / "out"
    with pytest.raises(error, match=match):
        export_both(folder, out)
    assert not out.exists() or list(out.iterdir()) == []


# The original layout


@pytest.mark.parametrize(("kind", "linears"), [("linear", 1), ("mlp1x_gelu", 1), ("mlp3x_gelu", 3)])
def test_projectors(llava: Path, kind: str, linears: int) -> None:
    random = torch.Generator().manual_seed(1)
    weights = [torch.randn(128, 128, generator=random) / 8 for _ in range(linears)]
    weights[0] = weights[0][:, :64].contiguous()

    def replace(tensors: Tensors) -> None:
        for place in (0, 2):
            del tensors[f"model.mm_projector.{place}.weight"]
            del tensors[f"model.mm_projector.{place}.bias"]
        for number, weight in enumerate(weights):
            place = "" if kind == "linear" else f"{2 * number}."
            tensors[f"model.mm_projector.{place}weight"] = weight
            tensors[f"model.mm_projector.{place}bias"] = torch.full((128,), 0.25)

    edit_config(llava, mm_projector_type=kind)
    edit_tensors(llava, replace)
    tower = load_tower(read_vlm(llava))
    with torch.inference_mode():
        expected = tower.backbone(PIXELS) @ weights[0].T + 0.25
        for weight in weights[1:]:
            expected = torch.nn.functional.gelu(expected) @ weight.T + 0.25
    torch.testing.assert_close(image_tokens(tower), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("merge", "arrangement"), [("flat", "flat"), ("spatial", "grid")])
def test_arrangements_without_newlines(llava: Path, merge: str, arrangement: str) -> None:
    edit_config(llava, mm_patch_merge_type=merge)
    refused(llava, LeftoverTensorError, r"model\.image_newline")
    edit_tensors(llava, lambda tensors: tensors.pop("model.image_newline"))
    model = read_vlm(llava)
    assert model.vision.arrangement == arrangement
    assert model.vision.processing.tiling is not None
    assert model.vision.processing.tiling.shrink_over_tiles is None
    assert load_tower(model).newline is None


@pytest.mark.parametrize(
    ("ratio", "fit", "pad_color", "shrink"),
    [
        ("anyres", "squash", (0, 0, 0), None),
        ("anyres_max_4", "squash", (0, 0, 0), 4),
        ("pad", "expand", (127, 127, 127), 0),
        ("square", "squash", (0, 0, 0), 0),
        (None, "squash", (0, 0, 0), 0),
    ],
)
def test_aspect_ratios(
    llava: Path, ratio: str | None, fit: str, pad_color: tuple[int, ...], shrink: int | None
) -> None:
    edit_config(llava, image_aspect_ratio=ratio)
    processing = read_vlm(llava).vision.processing
    assert (processing.fit, processing.pad_color) == (fit, pad_color)
    if shrink == 0:
        assert processing.tiling is None
    else:
        assert processing.tiling is not None
        assert processing.tiling.shrink_over_tiles == shrink


@pytest.mark.parametrize(
    ("pinpoints", "grids"),
    [
        ("(1x1),...,(2x3)", ((1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3))),
        ("[[384, 768], [1152, 384]]", ((1, 2), (3, 1))),
        ([[768, 384]], ((2, 1),)),
    ],
)
def test_pinpoints_are_widths_and_heights(
    llava: Path, pinpoints: Any, grids: tuple[tuple[int, int], ...]
) -> None:
    edit_config(llava, image_grid_pinpoints=pinpoints)
    tiling = read_vlm(llava).vision.processing.tiling
    assert tiling is not None
    assert tiling.grids == grids


@pytest.mark.parametrize("layer", [-1, -2, None])
def test_the_select_layer_was_applied_before_saving(llava: Path, layer: int | None) -> None:
    edit_config(llava, mm_vision_select_layer=layer)
    model = read_vlm(llava)
    assert model.vision.tower["num_hidden_layers"] == 3
    assert torch.equal(image_tokens(load_tower(model)), image_tokens(load_tower(read_vlm(LLAVA))))


def beside_settings() -> dict[str, Any]:
    """A tower as the hub has it: one layer more than LLaVA keeps."""
    return {
        "hidden_size": 64,
        "intermediate_size": 172,
        "num_hidden_layers": 4,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
    }


@pytest.mark.parametrize("whole", [True, False])
def test_a_tower_beside_the_checkpoint_loses_its_last_layer(llava: Path, whole: bool) -> None:
    def is_tower(name: str) -> bool:
        return name.startswith(TOWER)

    edit_tensors(llava, lambda t: [t.pop(name) for name in list(t) if is_tower(name)])
    torch.manual_seed(8)
    tower = SiglipVisionModel(SiglipVisionConfig(**beside_settings())).eval()
    folder = llava.parent / "tower"
    if whole:
        text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = SiglipConfig(text_config=text | {"vocab_size": 9}, vision_config=beside_settings())
        siglip = SiglipModel(config)
        siglip.vision_model.load_state_dict(tower.state_dict())
        siglip.save_pretrained(folder)
    else:
        tower.save_pretrained(folder)
    assert vision_tower_beside(llava) == SO400M
    with pytest.raises(
        UnsupportedModelError, match=f"no vision tower: give the folder of {SO400M}"
    ):
        read_vlm(llava)
    loaded = load_tower(read_vlm(llava, vision_tower=folder))
    with torch.inference_mode():
        hidden = tower(PIXELS, output_hidden_states=True).hidden_states[-2]
        features = loaded.backbone(PIXELS)
    torch.testing.assert_close(features, hidden, rtol=0, atol=1e-5)


def test_a_tower_is_not_taken_twice(llava: Path) -> None:
    assert vision_tower_beside(llava) is None
    with pytest.raises(UnsupportedModelError, match="holds its vision tower"):
        read_vlm(llava, vision_tower=llava)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"architectures": ["LlavaLlamaForCausalLM"]}, UnsupportedModelError, "known: LlavaQwen3"),
        ({"architectures": ["Qwen3ForCausalLM"]}, UnsupportedModelError, "no vision-language"),
        ({"mm_vision_tower": "openai/clip-vit"}, UnsupportedModelError, f"known: {SO400M}"),
        ({"mm_vision_tower": None}, UnsupportedModelError, f"known: {SO400M}"),
        ({"mm_projector_type": "resampler"}, UnsupportedModelError, "known: linear, mlpNx_gelu"),
        ({"mm_projector_type": "mlp3x_gelu"}, MissingTensorError, r"mm_projector\.4|4\.weight"),
        ({"mm_projector_type": "mlp1x_gelu"}, LeftoverTensorError, r"mm_projector\.2\.weight"),
        ({"mm_patch_merge_type": "spatial_nobase"}, UnsupportedModelError, "known: flat, spatial"),
        ({"mm_resampler_type": "qformer"}, UnsupportedModelError, "mm_resampler_type 'qformer'"),
        ({"mm_use_im_start_end": True}, UnsupportedModelError, "mm_use_im_start_end"),
        ({"image_aspect_ratio": "highres"}, UnsupportedModelError, "known: anyres, anyres_max_N"),
        ({"image_grid_pinpoints": [[384, 400]]}, UnreadableCheckpointError, "multiples of 384"),
        ({"image_grid_pinpoints": None}, UnreadableCheckpointError, "image_grid_pinpoints"),
        ({"image_grid_pinpoints": "junk"}, UnreadableCheckpointError, "image_grid_pinpoints"),
        ({"image_grid_pinpoints": "(0x1),(2x2)"}, UnreadableCheckpointError, "grids"),
        ({"image_grid_pinpoints": [[384 * 65, 384]]}, UnreadableCheckpointError, "grids"),
        ({"use_sliding_window": True}, UnsupportedModelError, "use_sliding_window"),
        ({"hidden_size": "wide"}, UnreadableCheckpointError, "language model|hidden_size"),
        (
            {"num_hidden_layers": 3, "layer_types": None},
            LeftoverTensorError,
            r"model\.layers\.3",
        ),
        (
            {"layer_types": ["full_attention"] * 3 + ["sliding_attention"]},
            UnsupportedModelError,
            "sliding_attention",
        ),
        ({"intermediate_size": 380}, TensorShapeError, r"gate_proj.*\[384, 128\]"),
        ({"vocab_size": 2000}, TensorShapeError, r"embed_tokens.*\[2048, 128\]"),
        ({"tie_word_embeddings": False}, MissingTensorError, r"lm_head\.weight"),
    ],
)
def test_llava_settings_that_are_refused(
    llava: Path, changes: dict[str, Any], error: type[Exception], match: str
) -> None:
    edit_config(llava, **changes)
    refused(llava, error, match)


def test_rope_scaling_is_ignored_as_llava_ignores_it(llava: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    expected = export_llm(LLAVA, tmp_path / "expected.gguf", dtype="F32", check_logits=False)
    edit_config(llava, rope_scaling={"rope_type": "yarn", "factor": 4.0})
    report = export_llm(llava, out, dtype="F32")
    assert report.error is not None
    assert report.error < MAX_LOGIT_ERROR
    assert out.read_bytes() == expected.path.read_bytes()


# Tensors


def poisoned(name: str, value: float) -> Callable[[Tensors], None]:
    def edit(tensors: Tensors) -> None:
        tensors[name].view(-1)[-1] = value

    return edit


def reshaped(name: str) -> Callable[[Tensors], None]:
    def edit(tensors: Tensors) -> None:
        tensors[name] = torch.cat([tensors[name], tensors[name][:1]])

    return edit


LAST_TOWER_BIAS = f"{TOWER}vision_model.encoder.layers.2.mlp.fc2.bias"


@pytest.mark.parametrize(
    ("edit", "error", "match"),
    [
        (lambda t: t.pop(LAST_TOWER_BIAS), MissingTensorError, r"layers\.2\.mlp\.fc2\.bias"),
        (lambda t: t.pop("model.mm_projector.2.bias"), MissingTensorError, r"2\.bias"),
        (lambda t: t.pop("model.image_newline"), MissingTensorError, "image_newline"),
        (lambda t: t.pop("model.norm.weight"), MissingTensorError, r"model\.norm\.weight"),
        (lambda t: t.update(extra=torch.zeros(2)), LeftoverTensorError, "extra"),
        (
            lambda t: t.update({"model.vision_resampler.x": torch.zeros(2)}),
            LeftoverTensorError,
            "vision_resampler",
        ),
        (
            lambda t: t.update({f"{TOWER}vision_model.pool.weight": torch.zeros(2)}),
            LeftoverTensorError,
            f"{re.escape(TOWER)}vision_model.pool.weight",
        ),
        (
            lambda t: t.update({"model.image_newline_2": torch.zeros(128)}),
            LeftoverTensorError,
            "image_newline_2",
        ),
        (reshaped(LAST_TOWER_BIAS), TensorShapeError, r"fc2\.bias.*\[65\].*\[64\]"),
        (reshaped("model.mm_projector.0.weight"), TensorShapeError, r"\[129, 64\]"),
        (reshaped("model.image_newline"), TensorShapeError, r"image_newline.*\[129\]"),
        (reshaped("model.layers.1.mlp.up_proj.weight"), TensorShapeError, r"\[385, 128\]"),
        (poisoned(LAST_TOWER_BIAS, torch.nan), TensorValueError, r"fc2\.bias holds NaN"),
        (poisoned("model.mm_projector.2.weight", torch.inf), TensorValueError, "mm_projector.2"),
        (poisoned("model.image_newline", torch.nan), TensorValueError, "image_newline holds NaN"),
        (
            lambda t: t.update({"model.norm.weight": t["model.norm.weight"].double()}),
            UnreadableCheckpointError,
            "F64",
        ),
    ],
)
def test_tensors_that_are_refused(
    llava: Path, edit: Callable[[Tensors], Any], error: type[Exception], match: str
) -> None:
    edit_tensors(llava, edit)
    refused(llava, error, match)


def test_a_language_model_with_nan_is_refused(llava: Path, tmp_path: Path) -> None:
    edit_tensors(llava, poisoned("model.layers.3.mlp.up_proj.weight", torch.nan))
    with pytest.raises(TensorValueError, match=r"layers\.3\.mlp\.up_proj\.weight holds NaN"):
        export_llm(llava, tmp_path / "out" / "llm.gguf", check_logits=False)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_stored_copy_of_tied_embeddings_is_accepted(llava: Path, tmp_path: Path) -> None:
    edit_tensors(
        llava, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()})
    )
    read_vlm(llava)
    export_llm(llava, tmp_path / "out.gguf", check_logits=False)
    edit_tensors(llava, lambda t: t.update({"lm_head.weight": torch.zeros(2048, 128)}))
    with pytest.raises(TensorValueError, match=r"lm_head\.weight differs"):
        export_llm(llava, tmp_path / "other.gguf", check_logits=False)


def test_damaged_files_are_refused(llava: Path) -> None:
    content = (llava / "model.safetensors").read_bytes()
    (llava / "model.safetensors").write_bytes(content[:-1000])
    refused(llava, UnreadableCheckpointError, r"model\.safetensors cannot be read")
    (llava / "config.json").write_text("[]")
    refused(llava, UnreadableCheckpointError, "not an object")


def test_a_truncated_shard_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "shards", LLAVA, llava_tensors(), shards=3)
    read_vlm(folder)
    shard = folder / "model-00002-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:-10])
    refused(folder, UnreadableCheckpointError, "00002-of-00003.safetensors cannot be read")
    shard.unlink()
    refused(folder, UnreadableCheckpointError, "00002-of-00003.safetensors cannot be read")


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_files_of_torch_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, shards: int
) -> None:
    monkeypatch.setattr(
        "edge_et.export.checkpoint.torch_file._MAPPED_BYTES", 10_000
    )  # mapped anew often
    tensors = {name: tensor.to(dtype) for name, tensor in llava_tensors().items()}
    as_torch = write_checkpoint(tmp_path / "t", LLAVA, tensors, shards=shards, torch_files=True)
    as_safetensors = write_checkpoint(tmp_path / "s", LLAVA, tensors, shards=shards)
    towers = [load_tower(read_vlm(folder)).state_dict() for folder in (as_torch, as_safetensors)]
    assert all(torch.equal(tensor, towers[1][name]) for name, tensor in towers[0].items())
    graphs = [
        export_llm(folder, tmp_path / f"{folder.name}.gguf", dtype="F32", check_logits=False).path
        for folder in (as_torch, as_safetensors)
    ]
    assert graphs[0].read_bytes() == graphs[1].read_bytes()


class Code:
    """What a hostile pickle holds."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("plain_pickle", [True, False])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, plain_pickle: bool) -> None:
    folder = write_checkpoint(tmp_path / "bin", LLAVA, llava_tensors(), torch_files=True)
    content: dict[str, Any] = {"model.norm.weight": Code(tmp_path / "ran")}
    path = folder / "pytorch_model.bin"
    if plain_pickle:
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    refused(folder, UnreadableCheckpointError, "cannot be read|not run.*safetensors")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ([torch.zeros(2)], "holds list, not tensors"),
        ({"state_dict": {"a": torch.zeros(2)}}, "state_dict .* is dict"),
        ({"model.norm.weight": torch.zeros(2, dtype=torch.int8)}, r"is torch\.int8"),
        ({"model.norm.weight": torch.zeros(2).to_sparse()}, "expected dense tensors"),
        ({"model.norm.weight": torch.zeros(2, device="meta")}, "expected dense tensors"),
    ],
)
def test_other_content_of_torch_files_is_refused(tmp_path: Path, content: Any, match: str) -> None:
    folder = write_checkpoint(tmp_path / "bin", LLAVA, llava_tensors(), torch_files=True)
    torch.save(content, folder / "pytorch_model.bin")
    refused(folder, UnreadableCheckpointError, match)


def test_a_truncated_file_of_torch_is_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "bin", LLAVA, llava_tensors(), torch_files=True)
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-5000])
    refused(folder, UnreadableCheckpointError, r"pytorch_model\.bin cannot be read")


# transformers' layout


def test_names_of_modules_are_read_too(onevision: Path, tmp_path: Path) -> None:
    newer = write_checkpoint(
        tmp_path / "newer", ONEVISION, onevision_tensors(newer_names=True), shards=2
    )
    towers = [load_tower(read_vlm(folder)).state_dict() for folder in (onevision, newer)]
    assert all(torch.equal(tensor, towers[1][name]) for name, tensor in towers[0].items())
    files = [
        export_llm(folder, tmp_path / f"{folder.name}.gguf", check_logits=False).path
        for folder in (onevision, newer)
    ]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_tensor_under_both_names_is_refused(onevision: Path) -> None:
    edit_tensors(onevision, lambda t: t.update({"model.image_newline": t["image_newline"].clone()}))
    refused(onevision, UnreadableCheckpointError, "image_newline twice")


@pytest.mark.parametrize(("layer", "place"), [(-1, -1), (-2, -2), (2, -2), (3, -1)])
def test_the_feature_layer_is_counted_as_transformers_counts(
    onevision: Path, layer: int, place: int
) -> None:
    edit_config(onevision, vision_feature_layer=layer)
    tower = load_tower(read_vlm(onevision))
    reference = SiglipVisionModel.from_pretrained(
        save_tower(onevision, onevision.parent / "tower")
    ).eval()
    with torch.inference_mode():
        hidden = reference(PIXELS, output_hidden_states=True).hidden_states
        features = tower.backbone(PIXELS)
    assert len(tower.backbone.layers) == 4 + place
    torch.testing.assert_close(features, hidden[layer], rtol=0, atol=1e-5)


def save_tower(checkpoint: Path, folder: Path) -> Path:
    """Write the tower of a OneVision checkpoint as a checkpoint of its own."""
    folder.mkdir()
    tensors = load_file(checkpoint / "model.safetensors")
    prefix = "vision_tower."
    save_file(
        {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    config = json.loads((checkpoint / "config.json").read_text())["vision_config"]
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_qwen2_inside_onevision_is_that_of_transformers(tmp_path: Path) -> None:
    folder = write_onevision(tmp_path / "onevision")
    reference = random_onevision(folder)
    tower = load_tower(read_vlm(folder))
    with torch.inference_mode():
        hidden = reference.model.vision_tower(PIXELS, output_hidden_states=True).hidden_states[-1]
        expected = reference.model.multi_modal_projector(hidden)
    torch.testing.assert_close(image_tokens(tower), expected, rtol=0, atol=1e-5)
    assert tower.newline is not None
    assert torch.equal(tower.newline, reference.model.image_newline)
    report = export_llm(folder, tmp_path / "llm.gguf", dtype="F32")
    assert report.error is not None
    assert report.error < MAX_LOGIT_ERROR
    ids = [5, 77, 1976, 1500, 2, 2]
    with torch.inference_mode():
        logits = reference(input_ids=torch.tensor([ids])).logits[0].numpy()
    (found,) = llama_logits(report.path, [ids])
    assert np.abs(found - logits).max() < MAX_LOGIT_ERROR


def random_onevision(folder: Path) -> LlavaOnevisionForConditionalGeneration:
    """Replace a checkpoint by a random one with Qwen2, untied, without projector biases."""
    text = Qwen2Config(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=2048,
        rope_theta=50_000.0,
        tie_word_embeddings=False,
        initializer_range=0.15,
    )
    vision = json.loads((ONEVISION / "config.json").read_text())["vision_config"]
    torch.manual_seed(2)
    model = LlavaOnevisionForConditionalGeneration(
        LlavaOnevisionConfig(
            text_config=text.to_dict(), vision_config=vision, multimodal_projector_bias=False
        )
    ).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    generation = (folder / "generation_config.json").read_text()
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="300KB")
    (folder / "generation_config.json").write_text(generation)
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    return model


def test_qwen2_inside_llava(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "hidden_size": 128,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 2048,
        "tie_word_embeddings": False,
        "rope_theta": 20_000.0,
        "initializer_range": 0.1,
    }
    torch.manual_seed(3)
    reference = Qwen2ForCausalLM(Qwen2Config(**settings)).eval()
    for name, parameter in reference.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    vision = {
        name: tensor
        for name, tensor in llava_tensors().items()
        if name.startswith((TOWER, "model.mm_projector", "model.image_newline"))
    }
    folder = write_checkpoint(
        tmp_path / "llava", LLAVA, dict(reference.state_dict()) | vision, torch_files=True, shards=2
    )
    edit_config(
        folder,
        architectures=["LlavaQwenForCausalLM"],
        model_type="llava_qwen",
        head_dim=None,
        layer_types=None,
        **settings,
    )
    model = read_vlm(folder)
    assert model.language_model.architectures == ["Qwen2ForCausalLM"]
    report = export_llm(folder, tmp_path / "llm.gguf", dtype="F32")
    assert report.error is not None
    assert report.error < MAX_LOGIT_ERROR
    ids = [1975, 8, 198, 1000, 3]
    with torch.inference_mode():
        logits = reference(torch.tensor([ids])).logits[0].numpy()
    (found,) = llama_logits(report.path, [ids])
    assert np.abs(found - logits).max() < MAX_LOGIT_ERROR


def nested(part: str, **changes: Any) -> dict[str, Any]:
    content = json.loads((ONEVISION / "config.json").read_text())
    return {part: content[part] | changes}


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"vision_feature_layer": [-1, -2]}, UnsupportedModelError, r"\[-1, -2\]; known: one"),
        ({"vision_feature_layer": -4}, UnsupportedModelError, "feature layer -4"),
        ({"vision_feature_layer": 0}, UnsupportedModelError, "feature layer -4"),
        ({"vision_feature_select_strategy": "default"}, UnsupportedModelError, "known: full"),
        ({"vision_feature_select_strategy": "odd"}, UnsupportedModelError, "'odd'; known: full"),
        ({"vision_aspect_ratio": "anyres"}, UnsupportedModelError, "known: anyres_max_N"),
        ({"projector_hidden_act": "relu"}, UnsupportedModelError, "known: gelu"),
        ({"multimodal_projector_bias": False}, LeftoverTensorError, r"linear_1\.bias"),
        (nested("vision_config", model_type="clip_vision_model"), UnsupportedModelError, "siglip"),
        (nested("vision_config", num_hidden_layers=4), MissingTensorError, r"layers\.3\."),
        (nested("vision_config", num_attention_heads=7), UnreadableCheckpointError, "no SigLIP"),
        (nested("vision_config", patch_size=16), TensorShapeError, "patch_embedding"),
        (nested("text_config", model_type="llama"), UnsupportedModelError, "known: qwen2, qwen3"),
        (
            nested("text_config", rope_scaling={"rope_type": "yarn", "factor": 4.0}),
            UnsupportedModelError,
            "rope type 'yarn'",
        ),
        (nested("vision_config", num_hidden_layers=10**9), UnreadableCheckpointError, "layers"),
        (nested("text_config", num_hidden_layers=10**9), UnreadableCheckpointError, "layers"),
        ({"text_config": None}, UnreadableCheckpointError, "no text_config"),
        ({"text_config": 7}, UnreadableCheckpointError, "no text_config"),
        ({"vision_config": 7}, UnreadableCheckpointError, r"config\.json"),
        ({"image_grid_pinpoints": [[384, 384]]}, UnsupportedModelError, "other image_grid"),
    ],
)
def test_onevision_settings_that_are_refused(
    onevision: Path, changes: dict[str, Any], error: type[Exception], match: str
) -> None:
    edit_config(onevision, **changes)
    refused(onevision, error, match)


def test_what_the_image_processor_says_is_taken(onevision: Path) -> None:
    edit_config(
        onevision,
        "preprocessor_config.json",
        image_mean=[0.1, 0.2, 0.3],
        image_std=None,
        rescale_factor=0.5,
        resample=2,
    )
    processing = read_vlm(onevision).vision.processing
    assert processing.mean == (0.1, 0.2, 0.3)
    assert processing.std == (0.26862954, 0.26130258, 0.27577711)  # CLIP's are the default
    assert (processing.rescale, processing.resample) == (0.5, "bilinear")


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"size": {"height": 336, "width": 336}}, UnsupportedModelError, "takes 384 pixels"),
        ({"size": {"shortest_edge": 384}}, UnsupportedModelError, "takes 384 pixels"),
        ({"image_processor_type": "CLIPImageProcessor"}, UnsupportedModelError, "known: LlavaOne"),
        ({"do_normalize": False}, UnsupportedModelError, "leaving out"),
        ({"resample": 0}, UnsupportedModelError, "resample 0"),
        ({"image_mean": [0.5]}, UnreadableCheckpointError, "image_mean"),
        ({"image_std": [0.5, 0.5, 0]}, UnreadableCheckpointError, "std"),
        ({"rescale_factor": "small"}, UnreadableCheckpointError, "rescale_factor"),
    ],
)
def test_image_processors_that_are_refused(
    onevision: Path, changes: dict[str, Any], error: type[Exception], match: str
) -> None:
    edit_config(onevision, "preprocessor_config.json", **changes)
    refused(onevision, error, match)


def test_a_missing_image_processor_is_refused(onevision: Path) -> None:
    (onevision / "preprocessor_config.json").unlink()
    refused(onevision, UnreadableCheckpointError, r"preprocessor_config\.json")
