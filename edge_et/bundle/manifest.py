"""The manifest of a bundle: the structs of bundle.json, format version 4.

Versions 1 to 3 lack fields that have defaults here and are read as well.

Decoding into them refuses unknown and missing fields by path. Reading, writing and checking files
is done in `edge_et.bundle.loading`, which also re-exports these names.
"""

import inspect
import math
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from edge_et.bundle.chat_spec import ChatSpec, Text
from edge_et.bundle.choices_spec import ChoicesSpec
from edge_et.bundle.known_answers_spec import KnownAnswers
from edge_et.bundle.look_again_spec import LookAgainSpec
from edge_et.bundle.pictures_spec import PicturesSpec
from edge_et.bundle.placeholders import check_placeholders
from edge_et.bundle.processing_spec import Processing
from edge_et.bundle.tiling_spec import MarkupSpec

FORMAT: Final = "edge-et-bundle"
FORMAT_VERSION: Final = 4
READABLE_VERSIONS: Final = (1, 2, 3, 4)

Tokens = Annotated[int, Meta(ge=1, le=2**24)]
Width = Annotated[int, Meta(ge=1, le=2**20)]

_WITH_GRIDS: Final = ("qwen35",)
"""Architectures that count places by rows and columns of a picture."""


class FileHead(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The beginning of a file."""

    size_bytes: Annotated[int, Meta(ge=1, description="Bytes from the file's first one on.")]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="Their SHA-256.")]


class FileRef(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """A file of the bundle, or a resource of an installed Python package."""

    path: Annotated[Text, Meta(description="Relative path with forward slashes and no '..'.")]
    size_bytes: Annotated[int, Meta(ge=1, description="Size of the file, bytes.")]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="SHA-256, lower-case hex.")]
    package: Annotated[
        Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$")] | None,
        Meta(description="Top-level Python package that holds the file; null: the bundle's folder"),
    ] = None
    head: Annotated[
        FileHead | None, Meta(description="Of a GGUF, all that stands before its tensors.")
    ] = None


class VisionSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The vision tower and its projector, in one ONNX graph."""

    graph: Annotated[FileRef, Meta(description="ONNX file, pixel_values to image_tokens.")]
    weights: Annotated[
        FileRef | None,
        Meta(
            description="The graph's external data, beside it under the name that it gives; "
            "null: it holds all its weights itself."
        ),
    ] = None
    embedding_width: Annotated[Width, Meta(description="Width D of an image token.")]
    image_tokens_per_tile: Annotated[Tokens, Meta(description="Image tokens S of one tile.")]
    processing: Processing
    arrangement: Annotated[
        Literal["flat", "grid", "unpadded"],
        Meta(
            description="Order of the image tokens: tile after tile; the grid's rows; the grid's "
            "rows without borders, a newline token behind each."
        ),
    ] = "flat"
    pooling: Annotated[
        Literal[1, 2], Meta(description="Side of the blocks of tokens that are averaged.")
    ] = 1
    markup: Annotated[
        MarkupSpec | None, Meta(description="null: nothing stands between image tokens.")
    ] = None
    places: Annotated[
        Literal["line", "grid"],
        Meta(
            description="Where image tokens stand for the language model: one behind the other, or "
            "each in its row and column of the picture (M-RoPE)."
        ),
    ] = "line"

    @property
    def files(self) -> tuple[FileRef, ...]:
        """The graph, and its weights where they have a file of their own."""
        return (self.graph,) if self.weights is None else (self.graph, self.weights)

    def __post_init__(self) -> None:
        square = math.isqrt(self.image_tokens_per_tile) ** 2 == self.image_tokens_per_tile
        if (self.arrangement != "flat" or self.pooling == 2) and not square:
            raise ValueError(
                f"{self.image_tokens_per_tile} image tokens a tile are no square map, which "
                f'arrangement "{self.arrangement}" with pooling {self.pooling} needs'
            )
        self._check_whole_size()
        self._check_places()
        if self.weights is not None and not _are_beside(self.graph, self.weights):
            raise ValueError("`weights` must lie beside `graph`, where ONNX Runtime looks for them")
        if self.arrangement != "flat" and self.processing.height != self.processing.width:
            raise ValueError(f'arrangement "{self.arrangement}" needs tiles that are square')
        if self.arrangement != "flat" and self.markup is not None:
            raise ValueError(f'`markup` needs the arrangement "flat", not "{self.arrangement}"')
        if (tiling := self.processing.tiling) is None:
            return
        if self.arrangement != "flat" and (tiling.rule, tiling.whole) != ("area", "first"):
            raise ValueError(
                f'arrangement "{self.arrangement}" needs the rule "area", and `whole` "first"'
            )
        if self.markup is not None:
            self.markup.check_grids(tiling.possible_grids)

    def _check_places(self) -> None:
        if self.places == "line":
            return
        processing = self.processing
        if processing.whole_size is None:
            raise ValueError('`places` "grid" needs `whole_size`, whose blocks are its rows')
        if processing.tiling is not None or self.markup is not None:
            raise ValueError('`places` "grid" is for one tile a picture, without `markup`')

    def _check_whole_size(self) -> None:
        processing = self.processing
        if (size := processing.whole_size) is None:
            return
        if self.arrangement != "flat" or self.pooling != 1:
            raise ValueError('`whole_size` needs the arrangement "flat" and pooling 1')
        blocks = processing.height * processing.width // size.block**2
        if blocks != self.image_tokens_per_tile:
            raise ValueError(
                f"{self.image_tokens_per_tile} image tokens a tile of {processing.width} x "
                f"{processing.height} pixels, which has {blocks} blocks of `whole_size`"
            )


class Sampling(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a token is chosen from the logits."""

    temperature: Annotated[float, Meta(ge=0, le=10, description="0: the most probable token.")] = (
        0.0
    )
    top_p: Annotated[
        float, Meta(gt=0, le=1, description="Probability mass of the tokens chosen among.")
    ] = 1.0
    top_k: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Most tokens that are chosen among; null: any number."),
    ] = None
    seed: Annotated[
        Annotated[int, Meta(ge=0, le=2**63 - 1)] | None,
        Meta(description="Seed of the random numbers; null: another one every time."),
    ] = None


class LanguageModelSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One language model with its tokenizer and its way of holding a conversation."""

    weights: Annotated[FileRef, Meta(description="GGUF file.")]
    adapter: Annotated[FileRef | None, Meta(description="LoRA as a GGUF file, scale 1; null: none")]
    tokenizer: Annotated[FileRef, Meta(description="tokenizer.json, byte-level BPE.")]
    architecture: Annotated[
        Literal["llama", "qwen2", "qwen3", "lfm2", "qwen35", "gemma3"],
        Meta(description="general.architecture of the GGUF."),
    ]
    embedding_width: Annotated[Width, Meta(description="Width D of the model's embeddings.")]
    vocabulary_size: Annotated[
        int, Meta(ge=2, le=2**24, description="Rows V of the GGUF's embedding table.")
    ]
    context_length: Annotated[
        Tokens, Meta(description="Positions of the KV cache to allocate, tokens.")
    ]
    chat: ChatSpec


class HintSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The reasoner says, before stage 1, what in the picture the question depends on."""

    prompt: Annotated[Text, Meta(description="User turn to the reasoner; {question} required.")]
    max_hint_tokens: Annotated[Tokens, Meta(description="Budget of the hint, tokens.")]

    def __post_init__(self) -> None:
        check_placeholders(self.prompt, required={"question"}, allowed={"question"})


class ExtractSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Stage 1: the perceiver writes down what matters for the question."""

    prompt: Annotated[
        Text, Meta(description="User turn; {image} once, {question} and {hint} at will.")
    ]
    max_extraction_tokens: Annotated[Tokens, Meta(description="Budget of the extraction, tokens.")]
    sampling: Sampling
    system: Annotated[
        Text | None,
        Meta(
            description="System turn of stage 1, {question} and {hint} at will, for models that "
            "are told there what to look for; null: as `chat` has it."
        ),
    ] = None
    hint: Annotated[
        HintSpec | None, Meta(description="null: {hint} stands for `default_hint`.")
    ] = None
    default_hint: Annotated[
        Text,
        Meta(
            description="What {hint} stands for where nobody gives or writes it; with {question}."
        ),
    ] = "{question}"
    pictures: Annotated[
        Literal["apart", "together"],
        Meta(
            description="Several pictures of one question: each in a prompt of its own, or all in "
            "one, for models that were trained on that."
        ),
    ] = "apart"
    between_pictures: Annotated[
        str, Meta(description="Stands between two pictures that are together.")
    ] = ""

    @property
    def hint_places(self) -> int:
        """How often {hint} stands in the turns of stage 1."""
        return sum(text.count("{hint}") for text in (self.prompt, self.system or ""))

    def __post_init__(self) -> None:
        check_placeholders(self.prompt, required={"image"}, allowed={"image", "question", "hint"})
        check_placeholders(self.system or "", required=set(), allowed={"question", "hint"})
        check_placeholders(self.default_hint, required={"question"}, allowed={"question"})
        check_placeholders(self.between_pictures, required=set(), allowed=set())


class ThoughtSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The thoughts of a reasoner that puts them between two tokens before it speaks (Qwen3)."""

    start: Annotated[Text, Meta(description="Token that opens a thought, as text.")]
    end: Annotated[Text, Meta(description="Token that closes it, as text.")]
    start_suffix: Annotated[
        str, Meta(description="Follows `start` where the prompt opens the thought.")
    ] = ""
    skip: Annotated[
        str, Meta(description="Follows the assistant's opening where it shall not think.")
    ]
    closing: Annotated[
        str, Meta(description="Put in before `end` when a thought is cut, so that it concludes.")
    ]
    default: Annotated[bool, Meta(description="Whether it thinks unless a call says otherwise.")]
    prompt: Annotated[Text, Meta(description="User turn of a call that thinks; as `think.prompt`.")]
    max_thinking_tokens: Annotated[
        int, Meta(ge=0, le=2**24, description="Budget of the thought, tokens.")
    ]
    sampling: Sampling
    blocked_words: Annotated[
        tuple[Text, ...], Meta(description="Words that no thought may hold, such as 'wait'.")
    ] = ()

    def __post_init__(self) -> None:
        check_placeholders(self.prompt, required={"question"}, allowed={"question", "extraction"})


class ThinkSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Stage 2: the reasoner thinks about the extraction and answers."""

    prompt: Annotated[Text, Meta(description="User turn; {question} and {extraction} at will.")]
    max_thinking_tokens: Annotated[
        int, Meta(ge=0, le=2**24, description="Budget before the answer marker, tokens.")
    ]
    answer_marker: Annotated[Text, Meta(description="Text that separates thinking and answer.")]
    max_answer_tokens: Annotated[Tokens, Meta(description="Budget after the marker, tokens.")]
    sampling: Sampling
    thoughts: Annotated[
        ThoughtSpec | None, Meta(description="null: the model has no tokens for thoughts.")
    ] = None
    sees: Annotated[
        Literal["conversation", "extraction"],
        Meta(description="What a perceiver that also reasons has before it in stage 2."),
    ] = "conversation"
    pictures: Annotated[
        PicturesSpec, Meta(description="What {extraction} is, of several pictures that are apart.")
    ] = PicturesSpec()
    choices: Annotated[
        ChoicesSpec | None,
        Meta(description="How choices are told with letters; null: they are not told, but scored."),
    ] = None
    look_again: Annotated[
        LookAgainSpec, Meta(description="How it is asked what an extraction lacks.")
    ] = LookAgainSpec()

    def __post_init__(self) -> None:
        check_placeholders(self.prompt, required={"question"}, allowed={"question", "extraction"})


class DirectSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One stage without extraction."""

    prompt: Annotated[Text, Meta(description="User turn; {image} once, {question} at will.")]
    max_answer_tokens: Annotated[Tokens, Meta(description="Budget of the answer, tokens.")]
    default: Annotated[
        bool,
        Meta(
            description="Whether a free answer about one picture is written so where the caller "
            "asks for nothing that belongs to two stages; two stages give the others."
        ),
    ] = False

    def __post_init__(self) -> None:
        check_placeholders(
            self.prompt, required={"image", "question"}, allowed={"image", "question"}
        )


class Source(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Something that the bundle was made from."""

    name: Text
    version: str
    license: Annotated[Text, Meta(description="SPDX expression, or as the source states it.")]
    url: str
    used_for: Text


class Check(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Something measured when the bundle was made."""

    name: Text
    value: float
    limit: Annotated[float | None, Meta(description="What was accepted; null: for information.")]
    unit: str


class Manifest(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """bundle.json."""

    format: Literal["edge-et-bundle"] = FORMAT
    format_version: Literal[1, 2, 3, 4] = FORMAT_VERSION
    name: Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    version: Annotated[Text, Meta(description="Version of the bundle's content.")]
    description: str
    vision: VisionSpec
    perceiver: LanguageModelSpec
    reasoner: Annotated[
        LanguageModelSpec | None,
        Meta(description="null: the perceiver does both stages, in one KV cache."),
    ]
    extract: ExtractSpec
    think: ThinkSpec
    direct: Annotated[DirectSpec | None, Meta(description="null: no one-stage answering.")]
    sources: tuple[Source, ...]
    checks: tuple[Check, ...]
    known_answers: Annotated[
        KnownAnswers | None,
        Meta(description="What the models compute where they are right; null: nobody computed it."),
    ] = None

    def __post_init__(self) -> None:
        architecture = self.perceiver.architecture
        if self.vision.places == "grid" and architecture not in _WITH_GRIDS:
            raise ValueError(
                f'`vision.places` "grid" is for {", ".join(_WITH_GRIDS)}; the perceiver is '
                f"{architecture}"
            )
        if self.known_answers is None:
            return
        for role in ("perceiver", "reasoner"):
            known, spec = getattr(self.known_answers, role), getattr(self, role)
            if known is not None and spec is None:
                raise ValueError(f"`known_answers` are of a {role}, and there is none")
            if known is not None:
                known.check_vocabulary(spec.vocabulary_size)


def manifest_schema() -> dict[str, Any]:
    """Return the JSON schema of bundle.json."""
    schema = msgspec.json.schema(Manifest)
    for definition in schema["$defs"].values():
        # msgspec takes the indentation of our docstrings out from 0.23 on.
        if "description" in definition:
            definition["description"] = inspect.cleandoc(definition["description"])
    # They have defaults for those who write a manifest; a reader demands them.
    schema["$defs"]["Manifest"]["required"][:0] = ["format", "format_version"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"{FORMAT} {FORMAT_VERSION}",
        **schema,
    }


def _are_beside(one: FileRef, other: FileRef) -> bool:
    folders = {(ref.package, ref.path.rpartition("/")[0]) for ref in (one, other)}
    return len(folders) == 1
