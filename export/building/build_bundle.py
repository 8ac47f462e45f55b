"""Build a bundle from the names of checkpoints: everything that `edge-et build` does.

In: a perceiver and a reasoner, on the hub or in folders. Out: a bundle that the runtime has loaded.
Its models were compared with the checkpoints, and evaluated on prompts of both stages.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from edge_et.export.errors import UnsupportedModelError
from edge_et.export.licenses import Approve, require_permissive
from edge_et.export.steps import (
    Progress,
    needing_extra,
    no_progress,
    put_in_place,
    require_disk,
    work_folder,
)

with needing_extra("export"):
    import msgspec
    from huggingface_hub import constants

    from edge_et.bundle import file_ref
    from edge_et.export.building.assemble import (
        ModelFiles,
        assemble_bundle,
        require_no_other_folder,
    )
    from edge_et.export.building.build_files import BuildOptions, FileBuilder
    from edge_et.export.building.bundle_plan import (
        Built,
        Plan,
        count_parameters,
        make_plan,
        reasoner_in,
        source_of,
    )
    from edge_et.export.building.disk_space import ModelSize, build_bytes
    from edge_et.export.building.evaluation_prompts import (
        Prompt,
        Shown,
        check_reasoner_tokens,
        perceiver_prompts,
        reasoner_prompts,
    )
    from edge_et.export.building.stage_specs import (
        StageModel,
    )
    from edge_et.export.building.vlm_checkpoint import (
        VisionLanguageModel,
        check_prompt_tokens,
        read_vlm,
        vision_tower_beside,
    )
    from edge_et.export.chat.reference import TransformersReference
    from edge_et.export.chat.tokenizer_check import check_tokenizers
    from edge_et.export.chat.tokenizer_file import with_tokenizer_file
    from edge_et.export.checkpoint.config_keys import read_config
    from edge_et.export.checkpoint.hub import (
        PREFIX,
        fetch_checkpoint,
        files_to_fetch,
        find_checkpoint,
    )
    from edge_et.export.checkpoint.provenance import Checkpoint
    from edge_et.export.families.vlm_registry import LlmSource, read_llm
    from edge_et.quantize.example_dialogues import (
        CALIBRATION_EXAMPLES,
        EVALUATION_EXAMPLES,
        Example,
    )

_USED_FOR = {
    "perceiver": "perceiver: vision tower, projector, language model and tokenizer",
    "tower": "perceiver: vision tower",
    "reasoner": "reasoner: language model and tokenizer",
}


def build_bundle(
    perceiver: str,
    out: Path,
    *,
    reasoner: str | None = None,
    options: BuildOptions | None = None,
    approve: Approve = require_permissive,
    progress: Progress = no_progress,
) -> Built:
    """Make a bundle of a vision-language model and, if there is one, a reasoner.

    Whatever goes wrong, nothing is left behind but downloads.

    Args:
        perceiver: `hf:owner/name`, `hf:owner/name@revision` or a folder.
        out: the bundle to make; a bundle that is already there is replaced, another folder is not.
        reasoner: the same of a language model; None lets the perceiver reason.
        options: what else is wanted.
        approve: given the checkpoints by role before anything of them is downloaded but their
            description; what it raises ends the build. Unless told otherwise it refuses those of
            the hub whose licence may restrict what you do.
        progress: told the steps.

    Returns:
        The bundle, with what was measured on the way; the manifest holds that too.

    Raises:
        OptionError: a number is out of range.
        ImageError: a picture cannot be read.
        QuantizationError: an unknown type or method, or unusable pictures.
        HubError: a checkpoint cannot be had; its children say why.
        LicenseError: a licence has to be accepted first.
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
    parts = _obtain(perceiver, reasoner, out, options, approve, progress)
    with with_tokenizer_file(parts.folders["perceiver"]) as folder:
        parts = replace(parts, folders=parts.folders | {"perceiver": folder})
        return _build(parts, out, options, progress)


def _build(parts: "_Parts", out: Path, options: BuildOptions, progress: Progress) -> Built:
    vlm = read_vlm(parts.folders["perceiver"], vision_tower=parts.folders.get("tower"))
    plan = make_plan(
        vlm.folder,
        vlm.vision,
        vlm.chat_format,
        vlm.language_model,
        vlm.max_positions,
        name=parts.found["perceiver"].name,
        reasoner=parts.reasoner,
        options=options,
    )
    with work_folder(out) as work:
        builder = FileBuilder(work, options, progress)
        graph, weights = _make(builder, parts, vlm, plan, options)
        contexts = plan.contexts(weights)
        files = {
            role: ModelFiles(weights=path, tokenizer=parts.folders[role] / "tokenizer.json")
            for role, path in weights.items()
        }
        names = [parts.found[role].name for role in weights]
        sources = (source_of(found, _USED_FOR[role]) for role, found in parts.found.items())
        template = plan.template(names, tuple(sources))
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


def _obtain(
    perceiver: str,
    reasoner: str | None,
    out: Path,
    options: BuildOptions,
    approve: Approve,
    progress: Progress,
) -> _Parts:
    """Download what is not here, after everything that can be refused without weights."""
    places = {"perceiver": perceiver} | ({} if reasoner is None else {"reasoner": reasoner})
    found = {role: find_checkpoint(place) for role, place in places.items()}
    approve(found)
    described = {
        role: fetch_checkpoint(checkpoint, progress, weights=False)
        for role, checkpoint in found.items()
    }
    models = {role: read_llm(folder) for role, folder in described.items()}
    if not models["perceiver"].sees:
        raise UnsupportedModelError(f"{perceiver} is a language model without eyes")
    check_tokenizers(described.values())
    stage_model = None
    if (thinking := models.get("reasoner")) is not None:
        stage_model = reasoner_in(thinking.folder, thinking.config)
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
        approve({"tower": found["tower"]})
        sizes.insert(0, ModelSize(parameters=0, tower_parameters=found["tower"].weights_bytes // 2))
        require_room()
        folders["tower"] = fetch_checkpoint(found["tower"], progress)
    return _Parts(found, folders, stage_model)


def _make(
    builder: FileBuilder,
    parts: _Parts,
    vlm: VisionLanguageModel,
    plan: Plan,
    options: BuildOptions,
) -> tuple[Path, dict[str, Path]]:
    """Make the vision graph and the language models, the cheap checks first."""
    stages, reasoner = plan.stages, plan.reasoner
    builder.add("perceiver", check_prompt_tokens(vlm, stages.extract.prompt, stages.extract.system))
    if reasoner is not None:
        reference = TransformersReference(parts.folders["reasoner"])
        builder.add("reasoner", check_reasoner_tokens(reference, reasoner, stages.think))
    graph = builder.vision(vlm)
    vision = msgspec.structs.replace(plan.vision, graph=file_ref(graph))

    def stage_1_prompts(shown: Iterable[Shown]) -> list[Prompt]:
        return perceiver_prompts(plan.perceiver, stages.extract, graph, vision, shown)

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


def _size(checkpoint: Checkpoint, model: LlmSource) -> ModelSize:
    stored = read_config(model.folder / "config.json").get("dtype")
    parameters = count_parameters(model.config)
    others = checkpoint.weights_bytes // (4 if stored == "float32" else 2) - parameters
    return ModelSize(parameters=parameters, tower_parameters=max(others, 0))
