"""One spelling for what transformers 4 and transformers 5 write differently.

In: config.json, and the config of the image processor. Out: their content with the keys of
transformers 5, before anybody looks at one of them. Two spellings in one file have to agree: which
of them counts differs between the two generations.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_et.export.checkpoint.checkpoint_folder import read_json
from edge_et.export.errors import UnreadableCheckpointError

_PARTS = ("text_config", "llm_config", "vision_config")
_TIED_BY_DEFAULT = ("internvl", "lfm2_vl", "mistral3")  # by their config classes in transformers 5
_PREPROCESSOR, _PROCESSOR = "preprocessor_config.json", "processor_config.json"


def read_config(path: Path) -> dict[str, Any]:
    """Read a config.json, whichever transformers wrote it.

    Args:
        path: the file.

    Returns:
        Its content with the keys of transformers 5: the base of the rotary frequencies and their
        scaling are in `rope_parameters`, or nowhere; `dtype` is the type of the tensors; a
        `text_config` tells itself whether its embeddings are tied.

    Raises:
        UnreadableCheckpointError: the file cannot be read, or contradicts itself.
    """
    content = read_json(path)
    for name in ("", *_PARTS):
        settings = content.get(name) if name else content
        if isinstance(settings, dict):
            _one_rope(settings, f"{path}: {name}." if name else f"{path}: ")
            _rename_dtype(settings)
    text = content.get("text_config")
    if isinstance(text, dict):
        tied = content.get("tie_word_embeddings", content.get("model_type") in _TIED_BY_DEFAULT)
        text["tie_word_embeddings"] = bool(tied or text.get("tie_word_embeddings"))
    return content


def read_image_processor(folder: Path) -> tuple[dict[str, Any], Path]:
    """Read the config of a checkpoint's image processor.

    transformers 4 keeps it in a file of its own, 5 inside that of the processor.

    Args:
        folder: the checkpoint.

    Returns:
        The config, and the file that it is from.

    Raises:
        UnreadableCheckpointError: there is none, it cannot be read, or there are two that differ.
    """
    alone, whole = folder / _PREPROCESSOR, folder / _PROCESSOR
    inner = read_json(whole).get("image_processor") if whole.is_file() else None
    if inner is None:
        return read_json(alone), alone
    if not isinstance(inner, dict):
        raise UnreadableCheckpointError(f"{whole}: image_processor is no object")
    if alone.is_file():
        content = read_json(alone)
        for key in sorted((content.keys() & inner.keys()) - {"image_processor_type"}):
            _require_equal(
                f"{folder}: {key}", {_PREPROCESSOR: content[key], _PROCESSOR: inner[key]}
            )
    return inner, whole


def _one_rope(settings: dict[str, Any], place: str) -> None:
    """Move what the settings tell of the rotary frequencies into `rope_parameters`."""
    spellings: dict[str, Mapping[str, Any]] = {}
    if (base := settings.pop("rope_theta", None)) is not None:
        spellings["rope_theta"] = {"rope_theta": base}
    for name in ("rope_scaling", "rope_parameters"):
        if (stated := settings.pop(name, None)) is None:
            continue
        if not isinstance(stated, dict):
            raise UnreadableCheckpointError(f"{place}{name} is no object")
        stated = _of_one_layer_type(stated, settings.get("layer_types"), f"{place}{name}")
        spellings[name] = _with_rope_type(stated, f"{place}{name}")
    merged: dict[str, Any] = {}
    for key in dict.fromkeys(key for spelling in spellings.values() for key in spelling):
        stated = {name: values[key] for name, values in spellings.items() if key in values}
        _require_equal(f"{place}{key}", stated)
        merged[key] = next(iter(stated.values()))
    if merged:
        settings["rope_parameters"] = merged


def _of_one_layer_type(rope: dict[str, Any], layer_types: Any, place: str) -> dict[str, Any]:
    """Return the rope that all layers have, where one is written for each type of layer."""
    if not rope or not all(value is None or isinstance(value, dict) for value in rope.values()):
        return rope
    used = set(layer_types) if isinstance(layer_types, list) else set(rope)
    if missing := sorted(map(str, used - set(rope))):
        raise UnreadableCheckpointError(f"{place} tells nothing of layers of {missing[0]}")
    ropes = [rope[kind] for kind in rope if kind in used]
    same = ropes[0] is not None and all(other == ropes[0] for other in ropes)
    return ropes[0] if same else rope


def _with_rope_type(rope: Mapping[str, Any], place: str) -> dict[str, Any]:
    named = {key: rope[key] for key in ("rope_type", "type") if rope.get(key) is not None}
    _require_equal(place, named)
    others = {key: value for key, value in rope.items() if key not in ("rope_type", "type")}
    return others | ({"rope_type": next(iter(named.values()))} if named else {})


def _rename_dtype(settings: dict[str, Any]) -> None:
    if (older := settings.pop("torch_dtype", None)) is not None:
        settings.setdefault("dtype", older)


def _require_equal(what: str, stated: Mapping[str, Any]) -> None:
    first, *others = stated.items() or [("", None)]
    for name, value in others:
        if value != first[1]:
            raise UnreadableCheckpointError(
                f"{what} is {first[1]!r} by {first[0]} and {value!r} by {name}: "
                "keep the one that the model was trained with"
            )
