"""Build a bundle from the names of checkpoints: everything that `edge-et build` does.

In: a perceiver and a reasoner, on the hub or in folders. Out: a bundle that the runtime has loaded.
Its models were compared with the checkpoints, and evaluated on prompts of both stages.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path

from edge_et.export.errors import AssemblyError, UnsupportedModelError
from edge_et.export.steps import (
    Progress,
    StepReport,
    needing_extra,
    no_progress,
    put_in_place,
    require_disk,
    work_folder,
)

with needing_extra("export"):
    import msgspec
    from huggingface_hub import constants

    from edge_et.bundle import FileRef, Processing, Source, VisionSpec, file_ref
    from edge_et.export.building.assemble import (
        BundleTemplate,
        ModelFiles,
        ModelTemplate,
        assemble_bundle,
        require_no_other_folder,
    )
    from edge_et.export.building.build_files import BuildOptions, FileBuilder
    from edge_et.export.building.disk_space import ModelSize, build_bytes
    from edge_et.export.building.evaluation_prompts import (
        Prompt,
        Shown,
        check_reasoner_tokens,
        most_image_tokens,
        perceiver_prompts,
        reasoner_prompts,
    )
    from edge_et.export.building.stage_specs import (
        EXTRACT_WORDS,
        StageModel,
        TwoStages,
        plan_stages,
    )
    from edge_et.export.building.vlm_checkpoint import (
        VisionLanguageModel,
        check_prompt_tokens,
        read_vlm,
        vision_tower_beside,
    )
    from edge_et.export.chat.llm_chat_format import read_llm_chat_format
    from edge_et.export.chat.tokenizer_file import with_tokenizer_file
    from edge_et.export.checkpoint.config_keys import read_config
    from edge_et.export.checkpoint.hub import (
        PREFIX,
        fetch_checkpoint,
        files_to_fetch,
        find_checkpoint,
    )
    from edge_et.export.checkpoint.provenance import Checkpoint
    from edge_et.export.families.llm_family import LlmConfig, tensor_shapes
    from edge_et.export.families.llm_registry import family_of
    from edge_et.export.families.vlm_registry import LlmSource, read_llm
    from edge_et.llm import Tokenizer, read_shape
    from edge_et.quantize.example_dialogues import (
        CALIBRATION_EXAMPLES,
        EVALUATION_EXAMPLES,
        Example,
    )

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
_UNREAD = FileRef(path="vision.onnx", size_bytes=1, sha256="0" * 64)
_USED_FOR = {
    "perceiver": "perceiver: vision tower, projector, language model and tokenizer",
    "tower": "perceiver: vision tower",
    "reasoner": "reasoner: language model and tokenizer",
}


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


def build_bundle(
    perceiver: str,
    out: Path,
    *,
    reasoner: str | None = None,
    options: BuildOptions | None = None,
    progress: Progress = no_progress,
) -> Built:
    """Make a bundle of a vision-language model and, if there is one, a reasoner.

    Whatever goes wrong, nothing is left behind but downloads.

    Args:
        perceiver: `hf:owner/name`, `hf:owner/name@revision` or a folder.
        out: the bundle to make; a bundle that is already there is replaced, another folder is not.
        reasoner: the same of a language model; None lets the perceiver reason.
        options: what else is wanted.
        progress: told the steps.

    Returns:
        The bundle, with what was measured on the way; the manifest holds that too.

    Raises:
        OptionError: a number is out of range.
        ImageError: a picture cannot be read.
        QuantizationError: an unknown type or method, or unusable pictures.
        HubError: a checkpoint cannot be had; its children say why.
        DiskSpaceError: there is no room for downloads and bundle; asked before either.
        CheckpointError: a checkpoint cannot be used; its children say why.
        VocabularyError: a tokenizer cannot be used.
        ParityError: something differs too much from what it was made of.
        AssemblyError: the models do not fit into the context asked for, or `out` is no bundle.
        OutputError: a file cannot be written, or another process is making the same bundle.
        BundleError: the runtime cannot load the bundle.
    """
    options = options or BuildOptions()
    options.check()
    out = out.absolute()
    require_no_other_folder(out)
    parts = _obtain(perceiver, reasoner, out, options, progress)
    with with_tokenizer_file(parts.folders["perceiver"]) as folder:
        parts = replace(parts, folders=parts.folders | {"perceiver": folder})
        return _build(parts, out, options, progress)


def _build(parts: "_Parts", out: Path, options: BuildOptions, progress: Progress) -> Built:
    plan = _plan(parts, options)
    with work_folder(out) as work:
        builder = FileBuilder(work, options, progress)
        graph, weights = _make(builder, parts, plan, options)
        contexts = tuple(_context(role, path, plan.stages) for role, path in weights.items())
        files = {
            role: ModelFiles(weights=path, tokenizer=parts.folders[role] / "tokenizer.json")
            for role, path in weights.items()
        }
        template = _template(parts, plan)
        whole = assemble_bundle(
            template,
            work / "bundle",
            vision=graph,
            perceiver=files["perceiver"],
            reasoner=files.get("reasoner"),
            reports=builder.reports,
            take_from=work,
            progress=progress,
        )
        put_in_place(work / "bundle", out)
    return Built(
        path=out,
        reports=(*builder.reports, replace(whole, path=out)),
        contexts=contexts,
        sources=template.sources,
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """Checkpoints by role: `perceiver`, and where there are such `reasoner` and `tower`."""

    found: dict[str, Checkpoint]
    folders: dict[str, Path]
    reasoner: StageModel | None


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the bundle will say, but for what its files say themselves."""

    vlm: VisionLanguageModel
    vision: VisionSpec
    perceiver: StageModel
    reasoner: StageModel | None
    stages: TwoStages


def _obtain(
    perceiver: str, reasoner: str | None, out: Path, options: BuildOptions, progress: Progress
) -> _Parts:
    """Download what is not here, after everything that can be refused without weights."""
    places = {"perceiver": perceiver} | ({} if reasoner is None else {"reasoner": reasoner})
    found = {role: find_checkpoint(place) for role, place in places.items()}
    models = {
        role: read_llm(fetch_checkpoint(checkpoint, progress, weights=False))
        for role, checkpoint in found.items()
    }
    if models["perceiver"].table is None:
        raise UnsupportedModelError(f"{perceiver} is a language model without eyes")
    stage_model = _reasoner_of(models["reasoner"]) if reasoner is not None else None
    sizes = [_size(found[role], model) for role, model in models.items()]

    def require_room() -> None:
        missing = sum(
            file.size_bytes or 0 for each in found.values() for file in files_to_fetch(each)
        )
        needed = build_bytes(sizes, options.weight_bytes, options.tower_weight_bytes)
        require_disk([(Path(constants.HF_HUB_CACHE), missing), (out, needed)])

    require_room()
    folders = {role: fetch_checkpoint(checkpoint, progress) for role, checkpoint in found.items()}
    if tower := vision_tower_beside(folders["perceiver"]):
        found["tower"] = find_checkpoint(PREFIX + tower)
        sizes.insert(0, ModelSize(parameters=0, tower_parameters=found["tower"].weights_bytes // 2))
        require_room()
        folders["tower"] = fetch_checkpoint(found["tower"], progress)
    return _Parts(found, folders, stage_model)


def _plan(parts: _Parts, options: BuildOptions) -> _Plan:
    vlm = read_vlm(parts.folders["perceiver"], vision_tower=parts.folders.get("tower"))
    vision = VisionSpec(
        graph=_UNREAD,
        embedding_width=vlm.language_model.hidden_size,
        image_tokens_per_tile=vlm.image_tokens_per_tile,
        processing=_limited(vlm, options.max_tiles),
        arrangement=vlm.arrangement,
        markup=vlm.markup,
    )
    perceiver = StageModel(
        chat=vlm.chat,
        tokenizer=Tokenizer(vlm.folder / "tokenizer.json"),
        parameters=_parameters(vlm.language_model),
        longest=vlm.max_positions,
        image_prefix=vlm.image_prefix,
        text_prefix=vlm.text_prefix,
        between_pictures=vlm.chat_format.between_pictures,
        extract_words=vlm.chat_format.extract_words or EXTRACT_WORDS,
    )
    stages = plan_stages(
        perceiver,
        parts.reasoner,
        most_image_tokens(vision),
        options.context_length,
        paper_protocol=options.paper_protocol,
    )
    return _Plan(vlm, vision, perceiver, parts.reasoner, stages)


def _make(
    builder: FileBuilder, parts: _Parts, plan: _Plan, options: BuildOptions
) -> tuple[Path, dict[str, Path]]:
    """Make the vision graph and the language models, the cheap checks first."""
    stages, reasoner = plan.stages, plan.reasoner
    builder.add("perceiver", check_prompt_tokens(plan.vlm, stages.extract.prompt))
    if reasoner is not None:
        folder = parts.folders["reasoner"]
        builder.add("reasoner", check_reasoner_tokens(folder, reasoner, stages.think))
    graph = builder.vision(plan.vlm)
    vision = msgspec.structs.replace(plan.vision, graph=file_ref(graph))

    def stage_1_prompts(shown: Iterable[Shown]) -> list[Prompt]:
        return perceiver_prompts(plan.perceiver, stages.extract.prompt, graph, vision, shown)

    def calibration() -> Iterator[Shown]:
        yield from map(_described, CALIBRATION_EXAMPLES)
        if options.pictures is not None:
            yield from ((picture, "everything", "") for picture in options.load_pictures())

    weights = {
        "perceiver": builder.language_model(
            "perceiver",
            parts.folders["perceiver"],
            evaluation_prompts=lambda: stage_1_prompts(map(_described, EVALUATION_EXAMPLES)),
            calibration_prompts=lambda: stage_1_prompts(calibration()),
        )
    }
    if reasoner is not None:
        stage_2_prompts = partial(reasoner_prompts, reasoner, stages.think)
        weights["reasoner"] = builder.language_model(
            "reasoner",
            parts.folders["reasoner"],
            evaluation_prompts=lambda: stage_2_prompts(EVALUATION_EXAMPLES),
            calibration_prompts=lambda: stage_2_prompts(CALIBRATION_EXAMPLES),
        )
    return graph, weights


def _described(example: Example) -> Shown:
    return example.picture(), example.hint, example.extraction


def _template(parts: _Parts, plan: _Plan) -> BundleTemplate:
    stages, reasoner = plan.stages, plan.reasoner
    names = [parts.found[role].name for role in ("perceiver", "reasoner") if role in parts.found]
    short = "--".join(_NOT_IN_NAMES.sub("-", name.rpartition("/")[2]) for name in names)
    does = "sees and reasons" if reasoner is None else f"sees, {names[1]} reasons"
    return BundleTemplate(
        name=short.lstrip("._-") or "bundle",
        version="1",
        description=f"{names[0]} {does}. Built by edge-et {version('edge-et')}.",
        processing=plan.vision.processing,
        arrangement=plan.vision.arrangement,
        markup=plan.vision.markup,
        perceiver=ModelTemplate(context_length=stages.perceiver_context, chat=plan.perceiver.chat),
        reasoner=None
        if reasoner is None or stages.reasoner_context is None
        else ModelTemplate(context_length=stages.reasoner_context, chat=reasoner.chat),
        extract=stages.extract,
        think=stages.think,
        direct=stages.direct,
        sources=tuple(
            Source(
                name=checkpoint.name,
                version=checkpoint.version,
                license=checkpoint.license,
                url=checkpoint.url,
                used_for=_USED_FOR[role],
            )
            for role, checkpoint in parts.found.items()
        ),
    )


def _reasoner_of(model: LlmSource) -> StageModel:
    chat = read_llm_chat_format(model.folder)
    return StageModel(
        chat=chat.chat,
        tokenizer=Tokenizer(model.folder / "tokenizer.json"),
        parameters=_parameters(model.config),
        longest=model.config.max_position_embeddings,
        thoughts=chat.thoughts,
    )


def _limited(vlm: VisionLanguageModel, max_tiles: int | None) -> Processing:
    """Return the checkpoint's image processing, with fewer tiles if wanted."""
    processing = vlm.processing
    if max_tiles is None:
        return processing
    if processing.tiling is None:
        raise AssemblyError(f"{vlm.folder} shows each picture as one tile; leave max_tiles out")
    tiling = msgspec.structs.replace(processing.tiling, max_tiles=max_tiles)
    return msgspec.structs.replace(processing, tiling=tiling)


def _parameters(config: LlmConfig) -> int:
    return sum(map(math.prod, tensor_shapes(family_of(config), config).values()))


def _size(checkpoint: Checkpoint, model: LlmSource) -> ModelSize:
    stored = read_config(model.folder / "config.json").get("dtype")
    parameters = _parameters(model.config)
    others = checkpoint.weights_bytes // (4 if stored == "float32" else 2) - parameters
    return ModelSize(parameters=parameters, tower_parameters=max(others, 0))


def _context(role: str, weights: Path, stages: TwoStages) -> ContextSize:
    tokens = stages.perceiver_context if role == "perceiver" else stages.reasoner_context
    assert tokens is not None
    return ContextSize(
        role=role, tokens=tokens, kv_bytes=read_shape(weights).cache_bytes(tokens, "f16")
    )
