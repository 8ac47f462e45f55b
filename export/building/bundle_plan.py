"""What a bundle will say, before any of its files is made.

In: what is known of the models, wherever their weights come from. Out: prompts, budgets and
contexts of both stages, and the template of bundle.json.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec

from edge_et.bundle import FileRef, Processing, Source, VisionSpec
from edge_et.export.building.assemble import BundleTemplate, ModelTemplate
from edge_et.export.building.evaluation_prompts import most_image_tokens
from edge_et.export.building.stage_specs import (
    EXTRACT_WORDS,
    StageModel,
    TwoStages,
    plan_stages,
)
from edge_et.export.chat.llm_chat_format import read_llm_chat_format
from edge_et.export.chat.vlm_chat_format import VlmChatFormat
from edge_et.export.checkpoint.provenance import Checkpoint
from edge_et.export.errors import AssemblyError
from edge_et.export.families.llm_family import LlmConfig, tensor_shapes
from edge_et.export.families.llm_registry import family_of
from edge_et.export.families.vlm_layout import VisionPart
from edge_et.export.steps import StepReport
from edge_et.llm import Tokenizer, read_shape
from edge_et.options import check_at_least

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
_UNREAD = FileRef(path="vision.onnx", size_bytes=1, sha256="0" * 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSize:
    """A KV cache that the bundle will ask for.

    Attributes:
        role: `perceiver` or `reasoner`.
        tokens: positions.
        kv_bytes: memory of the cache in F16, the runtime's default.
    """

    role: str
    tokens: int
    kv_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A bundle, and how it came about.

    Attributes:
        path: its folder.
        reports: of the steps, in their order; files on the way are gone by now.
        contexts: one a model.
        sources: what it was made from.
    """

    path: Path
    reports: tuple[StepReport, ...]
    contexts: tuple[ContextSize, ...]
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """What a build may be told about contexts and prompts.

    Attributes:
        context_length: most positions of a KV cache; None: as many as the budgets need.
        max_tiles: most tiles of a picture unless a call says otherwise; None: any number.
        paper_protocol: whether every question asks for the letter of an option, within the
            budgets of the paper's benchmarks; else only choices do, within a minute's budgets.
    """

    context_length: int | None = None
    max_tiles: int | None = None
    paper_protocol: bool = False

    def check(self) -> None:
        """Refuse what cannot be done.

        Raises:
            OptionError: a number is out of range.
        """
        for name in ("context_length", "max_tiles"):
            if (value := getattr(self, name)) is not None:
                check_at_least(name, value, 1)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the bundle will say, but for what its files say themselves."""

    vision: VisionSpec
    perceiver: StageModel
    reasoner: StageModel | None
    stages: TwoStages

    def contexts(self, weights: Mapping[str, Path]) -> tuple[ContextSize, ...]:
        """Tell the KV caches.

        Args:
            weights: the GGUF of each role.
        """
        tokens = {
            "perceiver": self.stages.perceiver_context,
            "reasoner": self.stages.reasoner_context,
        }
        return tuple(
            ContextSize(
                role=role, tokens=count, kv_bytes=read_shape(path).cache_bytes(count, "f16")
            )
            for role, path in weights.items()
            if (count := tokens[role]) is not None
        )

    def template(self, names: list[str], sources: tuple[Source, ...]) -> BundleTemplate:
        """Give bundle.json without its files.

        Args:
            names: of the perceiver and, where there is one, of the reasoner.
            sources: what the bundle is made from.
        """
        short = "--".join(_NOT_IN_NAMES.sub("-", name.rpartition("/")[2]) for name in names)
        does = "sees and reasons" if self.reasoner is None else f"sees, {names[1]} reasons"
        stages = self.stages
        return BundleTemplate(
            name=short.lstrip("._-") or "bundle",
            version="1",
            description=f"{names[0]} {does}. Built by edge-et {version('edge-et')}.",
            processing=self.vision.processing,
            arrangement=self.vision.arrangement,
            markup=self.vision.markup,
            places=self.vision.places,
            perceiver=ModelTemplate(
                context_length=stages.perceiver_context, chat=self.perceiver.chat
            ),
            reasoner=None
            if self.reasoner is None or stages.reasoner_context is None
            else ModelTemplate(context_length=stages.reasoner_context, chat=self.reasoner.chat),
            extract=stages.extract,
            think=stages.think,
            direct=stages.direct,
            sources=sources,
        )


def make_plan(
    folder: Path,
    vision: VisionPart,
    chat_format: VlmChatFormat,
    config: LlmConfig,
    longest: int,
    *,
    name: str,
    reasoner: StageModel | None,
    options: PlanOptions,
) -> Plan:
    """Write the specs of a bundle.

    Args:
        folder: of the perceiver's checkpoint, with tokenizer.json.
        vision: the vision side.
        chat_format: how a conversation with the perceiver is written.
        config: of its language model.
        longest: positions that the perceiver was made for.
        name: of the perceiver's checkpoint.
        reasoner: the model that thinks; None: the perceiver does.
        options: what else is wanted.

    Raises:
        AssemblyError: the models do not fit into the context, or there are no tiles to limit.
    """
    spec = VisionSpec(
        graph=_UNREAD,
        embedding_width=config.hidden_size,
        image_tokens_per_tile=vision.image_tokens_per_tile,
        processing=_limited(vision.processing, options.max_tiles, folder),
        arrangement=vision.arrangement,
        markup=None if vision.markup is None else vision.markup.spec,
        places=vision.places,
    )
    perceiver = StageModel(
        chat=chat_format.chat,
        tokenizer=Tokenizer(folder / "tokenizer.json"),
        parameters=count_parameters(config),
        longest=longest,
        image_prefix=chat_format.image_prefix,
        text_prefix=chat_format.text_prefix,
        between_pictures=chat_format.between_pictures,
        extract_words=chat_format.extract_words or EXTRACT_WORDS,
        describes=chat_format.extract_words is None,
        writes_fields=chat_format.extractors is not None and name.endswith(chat_format.extractors),
    )
    stages = plan_stages(
        perceiver,
        reasoner,
        most_image_tokens(spec),
        options.context_length,
        paper_protocol=options.paper_protocol,
    )
    return Plan(spec, perceiver, reasoner, stages)


def reasoner_in(folder: Path, config: LlmConfig) -> StageModel:
    """Say what prompts need to know about a reasoner.

    Args:
        folder: its checkpoint, with tokenizer.json and a chat template.
        config: its config.

    Raises:
        VocabularyError: there is no template, or it fails.
        UnsupportedModelError: its turns are not of a form that a bundle can hold.
    """
    chat = read_llm_chat_format(folder)
    return StageModel(
        chat=chat.chat,
        tokenizer=Tokenizer(folder / "tokenizer.json"),
        parameters=count_parameters(config),
        longest=config.max_position_embeddings,
        thoughts=chat.thoughts,
    )


def count_parameters(config: LlmConfig) -> int:
    """Count the weights of a language model."""
    return sum(map(math.prod, tensor_shapes(family_of(config), config).values()))


def source_of(checkpoint: Checkpoint, used_for: str) -> Source:
    """Tell where something comes from, for the manifest."""
    return Source(
        name=checkpoint.name,
        version=checkpoint.version,
        license=checkpoint.license,
        url=checkpoint.url,
        used_for=used_for,
    )


def _limited(processing: Processing, max_tiles: int | None, folder: Path) -> Processing:
    """Return the checkpoint's image processing, with fewer tiles if wanted."""
    if max_tiles is None:
        return processing
    if processing.tiling is None:
        raise AssemblyError(f"{folder} shows each picture as one tile; leave max_tiles out")
    tiling = msgspec.structs.replace(processing.tiling, max_tiles=max_tiles)
    return msgspec.structs.replace(processing, tiling=tiling)
