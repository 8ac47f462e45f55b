from pathlib import Path
from typing import Any

import msgspec
import pytest
from tiny.bundle import build_bundle

from edge_et.bundle import (
    ChatSpec,
    ChoicesSpec,
    DirectSpec,
    ExtractSpec,
    FileRef,
    HintSpec,
    Manifest,
    PicturesSpec,
    Processing,
    RoleNames,
    Sampling,
    ThinkSpec,
    ThoughtSpec,
    VisionSpec,
    manifest_schema,
)
from edge_et.bundle.manifest import READABLE_VERSIONS

FILE = {"size_bytes": 1, "sha256": "0" * 64}
PROCESSING: dict[str, Any] = {
    "height": 32,
    "width": 32,
    "mean": [0, 0, 0],
    "std": [1, 1, 1],
    "rescale": 1,
    "resample": "bicubic",
    "fit": "squash",
}
VALID: dict[type[Any], dict[str, Any]] = {
    ChatSpec: {
        "turn_start": "<{role}>",
        "turn_end": "</>",
        "system": None,
        "stop_tokens": ["</>"],
    },
    HintSpec: {"prompt": "{question}", "max_hint_tokens": 1},
    ExtractSpec: {"prompt": "{image}", "max_extraction_tokens": 1, "sampling": {}},
    ThinkSpec: {
        "prompt": "{question}",
        "max_thinking_tokens": 0,
        "answer_marker": "A:",
        "max_answer_tokens": 1,
        "sampling": {},
    },
    ThoughtSpec: {
        "start": "<t>",
        "end": "</t>",
        "skip": "",
        "closing": "",
        "default": True,
        "prompt": "{question}",
        "max_thinking_tokens": 0,
        "sampling": {},
    },
    DirectSpec: {"prompt": "{image}{question}", "max_answer_tokens": 1},
    PicturesSpec: {},
    ChoicesSpec: {"prompt": "{question}{choices}"},
    VisionSpec: {
        "graph": FILE | {"path": "a/vision.onnx"},
        "embedding_width": 8,
        "image_tokens_per_tile": 15,
        "processing": PROCESSING,
    },
    Processing: PROCESSING,
}


def read(kind: type[Any], **changes: Any) -> Any:
    return msgspec.convert(VALID[kind] | changes, kind)


def test_what_has_a_default_may_be_left_out() -> None:
    for kind in VALID:
        read(kind)
    assert read(ThinkSpec).sees == "conversation"
    assert (read(ThinkSpec).thoughts, read(ExtractSpec).hint) == (None, None)
    assert (read(ThoughtSpec).start_suffix, read(ThoughtSpec).blocked_words) == ("", ())
    assert (read(ExtractSpec).pictures, read(ExtractSpec).between_pictures) == ("apart", "")
    assert read(ThinkSpec).pictures == PicturesSpec(
        item="Picture {number}: {extraction}",
        separator="\n",
        unseen="Picture {number}: not looked at, there was no time.",
    )
    assert read(ThinkSpec).choices is None
    told = read(ChoicesSpec)
    assert (told.thoughts_prompt, told.item, told.separator) == (None, "{letter}: {choice}", ", ")
    assert read(ChatSpec).assistant_start_suffix == ""
    assert (read(ChatSpec).start, read(ChatSpec).before_text) == ("", "")
    assert read(ChatSpec).roles == RoleNames(system="system", user="user", assistant="assistant")
    assert (read(VisionSpec).arrangement, read(VisionSpec).pooling) == ("flat", 1)
    assert (read(Processing).tiling, read(Processing).pad_color) == (None, (0, 0, 0))
    assert Sampling() == Sampling(temperature=0.0, top_p=1.0, top_k=None, seed=None)


@pytest.mark.parametrize(
    ("kind", "field", "text"),
    [
        (ChatSpec, "turn_start", "{role} {role}"),
        (ChatSpec, "system", 'Answer as {"a": 1} and {0} and {Q} say.'),
        (HintSpec, "prompt", "{question} {question}"),
        (ExtractSpec, "prompt", "{hint}{image}{question}{question}"),
        (ThinkSpec, "prompt", "{extraction}{question}"),
        (ThoughtSpec, "prompt", "{extraction}{question}"),
        (DirectSpec, "prompt", "{question}{image}"),
        (PicturesSpec, "item", "{number} {extraction} ({number})"),
        (ChoicesSpec, "prompt", "{choices}{extraction}{question}"),
        (ChoicesSpec, "thoughts_prompt", "{extraction}{question}{choices}"),
        (ChoicesSpec, "item", "{choice} ({letter})"),
    ],
)
def test_places_that_a_template_may_have(kind: type[Any], field: str, text: str) -> None:
    assert getattr(read(kind, **{field: text}), field) == text


@pytest.mark.parametrize(
    ("kind", "field", "text", "told"),
    [
        (ChatSpec, "turn_start", "<user>", "{role} is missing"),
        (ChatSpec, "turn_start", "{role}{question}", "unknown placeholder {question}"),
        (ChatSpec, "turn_end", "{role}", "unknown placeholder {role}"),
        (ChatSpec, "system", "{role}", "unknown placeholder {role}"),
        (ChatSpec, "assistant_start_suffix", "{role}", "unknown placeholder {role}"),
        (ChatSpec, "start", "{role}", "unknown placeholder {role}"),
        (ChatSpec, "before_text", "{question}", "unknown placeholder {question}"),
        (HintSpec, "prompt", "What?", "{question} is missing"),
        (HintSpec, "prompt", "{question}{image}", "unknown placeholder {image}"),
        (ExtractSpec, "prompt", "{image} {extraction}", "unknown placeholder {extraction}"),
        (ExtractSpec, "prompt", "{question}", "{image} is missing"),
        (ExtractSpec, "prompt", "{image}{image}", "more than once"),
        (ThinkSpec, "prompt", "{extraction}", "{question} is missing"),
        (ThinkSpec, "prompt", "{question}{hint}", "unknown placeholder {hint}"),
        (ThoughtSpec, "prompt", "{extraction}", "{question} is missing"),
        (ThoughtSpec, "prompt", "{question}{image}", "unknown placeholder {image}"),
        (DirectSpec, "prompt", "{image}", "{question} is missing"),
        (DirectSpec, "prompt", "{question}", "{image} is missing"),
        (DirectSpec, "prompt", "{question}{image}{image}", "more than once"),
        (DirectSpec, "prompt", "{question}{image}{hint}", "unknown placeholder {hint}"),
        (ExtractSpec, "between_pictures", "{image}", "unknown placeholder {image}"),
        (PicturesSpec, "item", "{extraction}", "{number} is missing"),
        (PicturesSpec, "item", "{number}", "{extraction} is missing"),
        (PicturesSpec, "item", "{number}{extraction}{extraction}", "more than once"),
        (PicturesSpec, "item", "{number}{extraction}{question}", "unknown placeholder {question}"),
        (PicturesSpec, "separator", "{number}", "unknown placeholder {number}"),
        (PicturesSpec, "unseen", "none", "{number} is missing"),
        (PicturesSpec, "unseen", "{number}{extraction}", "unknown placeholder {extraction}"),
        (ChoicesSpec, "prompt", "{question}", "{choices} is missing"),
        (ChoicesSpec, "thoughts_prompt", "{choices}", "{question} is missing"),
        (ChoicesSpec, "thoughts_prompt", "{question}{choices}{image}", "unknown placeholder"),
        (ChoicesSpec, "item", "{letter}", "{choice} is missing"),
        (ChoicesSpec, "item", "{letter}{choice}{choice}", "more than once"),
        (ChoicesSpec, "separator", "{letter}", "unknown placeholder {letter}"),
    ],
)
def test_places_that_a_template_may_not_have_are_named(
    kind: type[Any], field: str, text: str, told: str
) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        read(kind, **{field: text})
    assert told in str(caught.value)


@pytest.mark.parametrize("arrangement", ["grid", "unpadded"])
def test_a_map_of_tokens_is_square_and_so_is_its_tile(arrangement: str) -> None:
    assert read(VisionSpec, arrangement=arrangement, image_tokens_per_tile=16)
    with pytest.raises(msgspec.ValidationError, match="no square map"):
        read(VisionSpec, arrangement=arrangement)
    wide = PROCESSING | {"width": 33}
    assert read(VisionSpec, processing=wide)
    with pytest.raises(msgspec.ValidationError, match="tiles that are square"):
        read(VisionSpec, arrangement=arrangement, image_tokens_per_tile=16, processing=wide)


def test_blocks_of_tokens_need_a_map() -> None:
    assert read(VisionSpec, pooling=2, image_tokens_per_tile=9).pooling == 2
    with pytest.raises(msgspec.ValidationError, match="no square map"):
        read(VisionSpec, pooling=2)


WHOLE = {"block": 8, "min_tokens": 4, "max_tokens": 16}
RATIO = {"rule": "ratio", "grids": [[2, 1]]}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fit": "pad"}, 'the fit "squash"'),
        ({"height": 36}, "no blocks of 8"),
        ({"tiling": {"rule": "edge", "edge_tiles": 2}}, "exclude each other"),
        ({"whole_size": WHOLE | {"block": 7}}, "`block` 7 is odd"),
        ({"whole_size": WHOLE | {"min_tokens": 17}}, "`min_tokens` is larger"),
        (
            {"whole_size": WHOLE | {"max_tokens": 2**16, "block": 64}, "height": 64, "width": 64},
            "a tile may have more than 134217728 pixels",
        ),
        ({"whole_size": WHOLE | {"block": 16}}, "16 image tokens a tile of 32 x 32 pixels.* has 4"),
        ({"whole_size": None, "tiling": RATIO | {"over_pixels": 9}}, "needs `whole_size`"),
        ({"tiling": {"grids": [[2, 1]], "over_pixels": 9}}, 'belongs to the rule "ratio"'),
    ],
)
def test_what_tiles_of_many_sizes_exclude(changes: dict[str, Any], told: str) -> None:
    processing = PROCESSING | {"whole_size": WHOLE, "tiling": RATIO | {"over_pixels": 9}}
    spec = read(VisionSpec, image_tokens_per_tile=16, processing=processing)
    assert spec.processing.most_tile_pixels == 32 * 32
    with pytest.raises(msgspec.ValidationError, match=told):
        read(VisionSpec, image_tokens_per_tile=16, processing=processing | changes)


@pytest.mark.parametrize("changes", [{"arrangement": "grid"}, {"pooling": 2}])
def test_tiles_of_many_sizes_are_laid_flat(changes: dict[str, Any]) -> None:
    processing = PROCESSING | {"whole_size": WHOLE}
    with pytest.raises(msgspec.ValidationError, match='arrangement "flat" and pooling 1'):
        read(VisionSpec, image_tokens_per_tile=16, processing=processing, **changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"whole_size": None}, "needs `whole_size`"),
        ({"tiling": RATIO}, "one tile a picture"),
    ],
)
def test_image_tokens_in_rows_and_columns_are_those_of_one_tile(
    changes: dict[str, Any], told: str
) -> None:
    processing = PROCESSING | {"whole_size": WHOLE}
    values = {"image_tokens_per_tile": 16, "places": "grid"}
    assert read(VisionSpec, processing=processing, **values).places == "grid"
    with pytest.raises(msgspec.ValidationError, match=told):
        read(VisionSpec, processing=processing | changes, **values)
    mark = {"tokens": ["<a>"], "tile": [], "whole": [], "start": ["<a>"]}
    with pytest.raises(msgspec.ValidationError, match="without `markup`"):
        read(VisionSpec, processing=processing, markup=mark, **values)


def test_rows_and_columns_are_for_models_that_count_by_them(tmp_path: Path) -> None:
    manifest = build_bundle(tmp_path)
    processing = msgspec.convert(PROCESSING | {"whole_size": WHOLE}, Processing)
    values = msgspec.to_builtins(
        msgspec.structs.replace(
            manifest,
            vision=msgspec.structs.replace(
                manifest.vision, processing=processing, image_tokens_per_tile=16
            ),
        )
    )
    values["vision"]["places"] = "grid"
    with pytest.raises(msgspec.ValidationError, match="is for qwen35; the perceiver is llama"):
        msgspec.convert(values, Manifest)
    values["perceiver"]["architecture"] = "qwen35"
    assert msgspec.convert(values, Manifest).vision.places == "grid"


@pytest.mark.parametrize(
    ("weights", "beside"),
    [
        ({"path": "a/vision.onnx.data"}, True),
        ({"path": "vision.onnx.data"}, False),
        ({"path": "a/b/vision.onnx.data"}, False),
        ({"path": "a/vision.onnx.data", "package": "other"}, False),
    ],
)
def test_weights_lie_beside_their_graph(weights: dict[str, Any], beside: bool) -> None:
    if beside:
        spec = read(VisionSpec, weights=FILE | weights)
        assert spec.files == (spec.graph, spec.weights)
        assert read(VisionSpec).files == (spec.graph,)
    else:
        with pytest.raises(msgspec.ValidationError, match="beside `graph`"):
            read(VisionSpec, weights=FILE | weights)


def test_the_largest_grid_is_bounded() -> None:
    largest = {"grids": [[1, 1], [64, 32]]}
    assert read(Processing, height=256, width=256, tiling=largest).tiling is not None
    with pytest.raises(msgspec.ValidationError, match="2048 tiles has more than"):
        read(Processing, height=256, width=257, tiling=largest)


@pytest.mark.parametrize("fit", ["pad", "expand", "crop"])
def test_tiles_are_squashed(fit: str) -> None:
    assert read(Processing, fit=fit).fit == fit
    with pytest.raises(msgspec.ValidationError, match=fit):
        read(Processing, fit=fit, tiling={"grids": [[1, 1]]})


def test_a_file_of_the_bundle_names_no_package() -> None:
    """Earlier manifests, whose bytes are hashed, did not."""
    ref = FileRef(path="a", size_bytes=1, sha256="0" * 64)
    assert msgspec.to_builtins(ref) == FILE | {"path": "a"}


def test_a_reader_demands_format_and_version() -> None:
    manifest = manifest_schema()["$defs"]["Manifest"]
    assert manifest["required"][:2] == ["format", "format_version"]
    assert manifest["properties"]["format_version"]["enum"] == list(READABLE_VERSIONS)
    assert manifest["additionalProperties"] is False
