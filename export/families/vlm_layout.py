"""How a vision-language checkpoint is laid out: which part owns a tensor, what its config means.

In: the content of config.json, and names and shapes of tensors. Out: the settings of the language
model inside, a `VisionPart`, a `VlmChatFormat`. Tensor values and torch modules are not known here.
One module a layout implements `Layout`; `vlm_registry.py` lists them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import msgspec
from tokenizers import Tokenizer

from edge_et.bundle import MarkupSpec, Processing
from edge_et.export.chat.chat_template import named_tokens
from edge_et.export.chat.vlm_chat_format import VlmChatFormat
from edge_et.export.checkpoint.checkpoint_folder import TensorFiles, open_tensors
from edge_et.export.errors import (
    LeftoverTensorError,
    TensorValueError,
    UnreadableCheckpointError,
    UnsupportedModelError,
    VocabularyError,
)
from edge_et.export.families.llm_family import MAX_LAYERS

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of red, green and blue: what processors of transformers take that are told none."""

SettingsT = TypeVar("SettingsT", bound=msgspec.Struct)

Part = Literal["llm", "tower", "projector", "newline", "draft"]

PartTable = tuple[tuple[str, Part, str], ...]
"""Beginning of a stored name, the part that it belongs to, and what that beginning is there; the
first that fits counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Markup:
    """Tokens of the language model between the tiles' image tokens.

    Attributes:
        spec: for the manifest.
        ids: rows of the embedding table, of each of its tokens.
    """

    spec: MarkupSpec
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionPart:
    """The vision side of a checkpoint, as its config describes it.

    Attributes:
        tower: keyword arguments of `SiglipVisionConfig`, `InternVLVisionConfig` or
            `Siglip2VisionConfig`, or the settings of `QwenBlocks`.
        tower_kind: which of them.
        tower_folder: where the tower lies; None: inside the checkpoint.
        feature_layer: which hidden state is projected, counted from the end: -1 is the output of
            the last layer that is stored; None: that output behind the final layernorm.
        projector_layers: linears of the projector.
        projector_bias: whether they have biases.
        projector_factor: side of the block of patches that becomes one image token.
        projector_norm: whether these blocks are normalised before the first linear.
        projector_hidden: width between two linears; None: that of the language model.
        processing: how a picture becomes pixel values.
        arrangement: order of the image tokens; `unpadded` needs a newline's vector.
        markup: what stands between the tiles' tokens; None: nothing does.
        places: as `VisionSpec.places`.
    """

    tower: dict[str, Any]
    tower_kind: Literal["siglip", "intern_vit", "siglip2", "qwen"] = "siglip"
    tower_folder: Path | None
    feature_layer: int | None
    projector_layers: int
    projector_bias: bool
    projector_factor: int = 1
    projector_norm: bool = False
    projector_hidden: int | None = None
    processing: Processing
    arrangement: Literal["flat", "grid", "unpadded"]
    markup: Markup | None = None
    places: Literal["line", "grid"] = "line"

    @property
    def image_tokens_per_tile(self) -> int:
        """S: the convolution over patches is valid, so what is left over at the borders is lost."""
        if (size := self.processing.whole_size) is not None:
            return self.processing.height * self.processing.width // size.block**2
        side = int(self.tower["image_size"] // self.tower["patch_size"])
        return (side // self.projector_factor) ** 2


class Layout(Protocol):
    """Hooks of one architecture."""

    def llm_settings(
        self, content: dict[str, Any], path: Path, known: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return all settings of the language model, as its own config.json would have them.

        Args:
            content: of config.json.
            path: its path, for messages.
            known: what is taken for those that are left out; None: the defaults of transformers.
        """

    def parts(self, content: dict[str, Any], path: Path) -> PartTable:
        """Return which part each tensor belongs to."""

    def tower_beside(self, content: dict[str, Any], path: Path, tensors: TensorFiles) -> str | None:
        """Name the tower that the checkpoint needs but does not hold; None: it holds its tower."""

    def vision(
        self,
        content: dict[str, Any],
        path: Path,
        tensors: TensorFiles | None,
        tower_folder: Path | None,
    ) -> VisionPart:
        """Return what the config says about the vision side.

        Args:
            content: of config.json.
            path: its path, for messages and for the files beside it.
            tensors: of the tower, for their shapes; None: a graph that somebody else has made of
                the tower on the hub takes its place.
            tower_folder: where the tower lies; None: inside the checkpoint, or in that graph.
        """

    def chat(self, folder: Path) -> VlmChatFormat:
        """Return how a conversation is written."""


def take_part(tensors: TensorFiles, table: PartTable, part: Part) -> TensorFiles:
    """Give the tensors of one part under their own names.

    Args:
        tensors: of the whole checkpoint.
        table: whose tensor is whose.
        part: the part.
    """
    return tensors.part(partial(_name_in, table, part))


def require_parts(tensors: TensorFiles, table: PartTable, source: Path) -> None:
    """Check that each tensor belongs to a part.

    Args:
        tensors: of the whole checkpoint.
        table: whose tensor is whose.
        source: the checkpoint, for the message.

    Raises:
        LeftoverTensorError: some belong to none.
    """
    known = tuple(beginning for beginning, _, _ in table)
    if leftover := sorted(name for name in tensors.names if not name.startswith(known)):
        raise LeftoverTensorError(str(source), leftover)


def complete_settings(
    settings: Mapping[str, Any],
    model_types: Mapping[str, str],
    path: Path,
    known: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Fill what a language model's settings leave out.

    Args:
        settings: some of its settings, `model_type` among them.
        model_types: architecture of each model type that is known.
        path: where they come from, for messages.
        known: what to fill it with; None: the defaults of transformers, which has to be there.

    Raises:
        UnsupportedModelError: another model type.
        UnreadableCheckpointError: transformers refuses the settings.
    """
    architecture = model_types.get(str(settings.get("model_type")))
    if architecture is None:
        raise UnsupportedModelError(
            f"{path}: a language model of type {settings.get('model_type')!r} cannot be exported; "
            f"known: {', '.join(model_types)}"
        )
    if known is not None:
        return {**known, **settings, "architectures": [architecture]}
    from transformers import AutoConfig  # a build from ready-made files goes without

    layers = settings.get("num_hidden_layers", 1)
    if not isinstance(layers, int) or layers > MAX_LAYERS:
        raise UnreadableCheckpointError(f"{path} describes no language model: {layers!r} layers")
    try:
        complete = AutoConfig.for_model(**settings).to_dict()
    except Exception as err:  # settings of wrong types make it raise nearly anything
        raise UnreadableCheckpointError(f"{path} describes no language model: {err}") from err
    return complete | {"architectures": [architecture]}


def refuse_unsupported(path: Path, settings: Mapping[str, bool]) -> None:
    """Refuse a checkpoint that asks for something that would be lost.

    Args:
        path: the config, for the message.
        settings: what a config can ask for, and whether this one does.

    Raises:
        UnsupportedModelError: it does; the message names the first.
    """
    if lost := [setting for setting, present in settings.items() if present]:
        raise UnsupportedModelError(f"{path} asks for {lost[0]}: not supported")


def require_tokens(folder: Path, expected: Mapping[str, str]) -> None:
    """Check that a processor takes the tokens from its tokenizer that the layout writes.

    Args:
        folder: the checkpoint.
        expected: text of each token by the name that the tokenizer may give it.

    Raises:
        UnsupportedModelError: the tokenizer names another one.
        UnreadableCheckpointError: a file cannot be read.
    """
    named = named_tokens(folder)
    lost = {
        f"{name} {named.get(name)!r}; known: {text}": named.get(name, text) != text
        for name, text in expected.items()
    }
    refuse_unsupported(folder / "tokenizer_config.json", lost)


def embeddings_are_tied(folder: Path, table: PartTable) -> bool:
    """Tell whether embeddings that a config ties are tied by the tensors, too.

    transformers 4 left the key out where it was false in the config of the language model, and 5
    takes it for true. Two tables that differ stay two in 5.

    Args:
        folder: the checkpoint.
        table: whose tensor is whose.

    Raises:
        CheckpointError: the tensors cannot be read.
    """
    try:
        tensors = open_tensors(folder)
    except UnreadableCheckpointError:
        return True  # a build reads the config before the tensors are there
    llm = take_part(tensors, table, "llm")
    if not {"lm_head.weight", "model.embed_tokens.weight"} <= llm.names:
        return True
    try:
        llm.drop_copy("lm_head.weight", of="model.embed_tokens.weight")
    except TensorValueError:
        return False
    return True


def open_tokenizer(folder: Path) -> Tokenizer:
    """Open a checkpoint's tokenizer.json.

    Args:
        folder: the checkpoint.

    Raises:
        VocabularyError: it cannot be read.
    """
    path = folder / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception as err:  # tokenizers raises bare exceptions
        raise VocabularyError(f"{path} cannot be read: {err}") from err


def mark_ids(folder: Path, marks: Iterable[str]) -> tuple[int, ...]:
    """Find the ids of tokens that stand around tiles.

    Args:
        folder: the checkpoint.
        marks: their texts.

    Raises:
        VocabularyError: one of them is no token of the tokenizer.
    """
    tokenizer = open_tokenizer(folder)
    ids = []
    for mark in marks:
        token = tokenizer.token_to_id(mark)
        if token is None or tokenizer.encode(mark, add_special_tokens=False).ids != [token]:
            raise VocabularyError(f"{folder / 'tokenizer.json'} has no token {mark}")
        ids.append(token)
    return tuple(ids)


def read_settings(content: dict[str, Any], kind: type[SettingsT], path: Path) -> SettingsT:
    """Take what decides something out of a config, with defaults for what it leaves out.

    Args:
        content: of the config.
        kind: a struct of the keys.
        path: the config, for the message.

    Raises:
        UnreadableCheckpointError: a value is of a wrong type or out of range.
    """
    try:
        return msgspec.convert(content, kind)
    except (msgspec.ValidationError, UnicodeEncodeError) as err:  # lone surrogates make the latter
        raise UnreadableCheckpointError(f"{path}: {err}") from err


def make_processing(path: Path, **values: Any) -> Processing:
    """Make a checked `Processing`.

    Args:
        path: where the values come from, for messages.
        values: its fields.

    Raises:
        UnreadableCheckpointError: a value is out of range.
    """
    try:
        return msgspec.convert(values, Processing)
    except msgspec.ValidationError as err:
        raise UnreadableCheckpointError(f"{path}: {err}") from err


def _name_in(table: PartTable, part: Part, name: str) -> str | None:
    for beginning, owner, inner in table:
        if name.startswith(beginning):
            return inner + name.removeprefix(beginning) if owner == part else None
    return None
