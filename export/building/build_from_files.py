"""Build a bundle from files that somebody else has made: `edge-et build --tower ...`.

In: a vision tower in ONNX, GGUFs, and the configs and tokenizers that they belong to, on the hub or
here. Out: a bundle that the runtime has loaded. Weights stay as they are; what belongs together is
checked. Neither torch nor transformers is needed, so a board can do it.
"""

from dataclasses import replace
from pathlib import Path

from edge_et.export.errors import AssemblyError
from edge_et.export.licenses import Approve, require_permissive
from edge_et.export.steps import (
    Progress,
    StepReport,
    Stopwatch,
    needing_extra,
    no_progress,
    put_in_place,
    release_memory,
    require_disk,
    work_folder,
)

with needing_extra("assemble"):
    import numpy as np
    from huggingface_hub import constants
    from numpy.typing import NDArray

    from edge_et.export.building.assemble import (
        ModelFiles,
        assemble_bundle,
        require_no_other_folder,
    )
    from edge_et.export.building.bundle_plan import (
        Built,
        Plan,
        PlanOptions,
        make_plan,
        source_of,
    )
    from edge_et.export.building.evaluation_prompts import check_reasoner_tokens
    from edge_et.export.building.ready_files import (
        Processor,
        ReadyParts,
        file_source,
        read_processor,
        read_reasoner,
        tensors_at_hand,
    )
    from edge_et.export.chat.prompt_tokens import (
        QUESTIONS,
        require_equal_prompts,
        vlm_prompts_that_differ,
    )
    from edge_et.export.chat.reference import PlainReference
    from edge_et.export.chat.tokenizer_check import check_tokenizers
    from edge_et.export.checkpoint.hub import fetch_checkpoint, fetch_file, files_to_fetch
    from edge_et.export.checkpoint.provenance import Checkpoint
    from edge_et.export.llm.ready_gguf import ReadyGguf
    from edge_et.export.vision.ready_tower import TowerShape, adapt_tower

_USED_FOR = {
    "tower": "perceiver: vision tower",
    "perceiver": "perceiver: language model",
    "processor": "perceiver: configs, tokenizer and projector",
    "reasoner": "reasoner: language model",
    "reasoner processor": "reasoner: tokenizer",
}
_FILES = ("tower", "perceiver", "reasoner")


def build_from_files(
    parts: ReadyParts,
    out: Path,
    *,
    options: PlanOptions | None = None,
    approve: Approve = require_permissive,
    progress: Progress = no_progress,
) -> Built:
    """Make a bundle of ready-made files.

    Whatever goes wrong, nothing is left behind but downloads.

    Args:
        parts: where the files are.
        out: the bundle to make; a bundle that is already there is replaced, another folder is not.
        options: what else is wanted.
        approve: see `build_bundle`.
        progress: told the steps.

    Returns:
        The bundle, with what was measured on the way; the manifest holds that too.

    Raises:
        OptionError: a number is out of range.
        HubError: something cannot be had; its children say why.
        LicenseError: a licence has to be accepted first.
        DiskSpaceError: there is no room for downloads and bundle; asked before either.
        CheckpointError: a file cannot be used; its children tell why.
        GraphError: the tower cannot be read or run.
        VocabularyError: a tokenizer or a chat template cannot be used.
        ParityError: something differs too much from what it is compared with.
        AssemblyError: files are not of one model, the models do not fit into the context asked
            for, or `out` is no bundle.
        OutputError: a file cannot be written, or another process is making the same bundle.
        BundleError: the runtime cannot load the bundle.
    """
    options = options or PlanOptions()
    options.check()
    out = out.absolute()
    require_no_other_folder(out)
    found = parts.find()
    approve(found)
    _require_room(found, out)
    folders = {
        role: fetch_checkpoint(found[role], progress, weights=False)
        for role in found
        if role not in _FILES
    }
    check_tokenizers(folders.values())
    processor = read_processor(folders["processor"], tensors_at_hand(found["processor"]))
    files = {role: fetch_file(found[role], progress) for role in _FILES if role in found}
    models = {role: ReadyGguf(files[role]) for role in _FILES[1:] if role in found}
    _check_perceiver(models["perceiver"], processor)
    reasoner = None
    if "reasoner" in models:
        reasoner = read_reasoner(folders["reasoner processor"], models["reasoner"])
    config = models["perceiver"].config
    plan = make_plan(
        processor.folder,
        processor.vision,
        processor.chat_format,
        config,
        min(config.max_position_embeddings, processor.longest or 2**24),
        name=found["processor"].name,
        reasoner=reasoner,
        options=options,
    )
    reports = _check_prompts(plan, processor, folders.get("reasoner processor"))
    markup = processor.vision.markup
    rows = None if markup is None else models["perceiver"].embeddings(markup.ids)
    weights = {role: model.path for role, model in models.items()}
    del models
    release_memory()
    with work_folder(out) as work:
        graph = work / "vision.onnx"
        reports.append(_adapt(files["tower"], graph, plan, processor, rows, progress))
        release_memory()
        places = {"perceiver": "processor", "reasoner": "reasoner processor"}
        model_files = {
            role: ModelFiles(weights=path, tokenizer=folders[places[role]] / "tokenizer.json")
            for role, path in weights.items()
        }
        sources = tuple(
            file_source(checkpoint, files[role], _USED_FOR[role])
            if role in files
            else source_of(checkpoint, _USED_FOR[role])
            for role, checkpoint in found.items()
        )
        names = [found[places[role]].name for role in weights]
        whole = assemble_bundle(
            plan.template(names, sources),
            work / "bundle",
            vision=graph,
            perceiver=model_files["perceiver"],
            reasoner=model_files.get("reasoner"),
            reports=reports,
            take_from=work,
            progress=progress,
        )
        put_in_place(work / "bundle", out)
    return Built(
        path=out,
        reports=(*reports, replace(whole, path=out)),
        contexts=plan.contexts(weights),
        sources=sources,
    )


def _require_room(found: dict[str, Checkpoint], out: Path) -> None:
    missing = sum(
        file.size_bytes or 0
        for each in found.values()
        for file in files_to_fetch(each)
        if not file.is_weights
    )
    copied = sum(
        file.size_bytes or 0 for role in _FILES if role in found for file in found[role].files
    )
    tower = sum(file.size_bytes or 0 for file in found["tower"].files)
    require_disk([(Path(constants.HF_HUB_CACHE), missing), (out, copied + tower)])


def _check_perceiver(model: ReadyGguf, processor: Processor) -> None:
    """Check that a GGUF and a checkpoint's configs and tokenizer are of one model."""
    settings = processor.llm_settings(model.settings)
    model.require_config(settings, processor.folder / "config.json")
    model.require_tokens(processor.folder / "tokenizer.json")
    if processor.vision.arrangement == "unpadded" and processor.newline is None:
        raise AssemblyError(
            f"{processor.folder} puts a vector behind each row of image tokens, which stands in "
            "its safetensors: name a folder or repository that has them"
        )


def _check_prompts(
    plan: Plan, processor: Processor, reasoner_folder: Path | None
) -> list[StepReport]:
    """Compare the runtime's tokens of whole prompts with those of the whole texts."""
    watch = Stopwatch()
    reference = PlainReference(processor.folder)
    extract = plan.stages.extract
    differing = vlm_prompts_that_differ(
        reference, processor.chat_format, extract.prompt, system=extract.system
    )
    measure = f"of {len(QUESTIONS)} prompts differ"
    reports = [require_equal_prompts(reference, differing, measure, watch)]
    if plan.reasoner is not None and reasoner_folder is not None:
        reasoner = PlainReference(reasoner_folder)
        reports.append(check_reasoner_tokens(reasoner, plan.reasoner, plan.stages.think))
    roles = ("perceiver", "reasoner")
    return [
        replace(report, name=f"{role} {report.name}")
        for role, report in zip(roles, reports, strict=False)
    ]


def _adapt(
    tower: Path,
    out: Path,
    plan: Plan,
    processor: Processor,
    markup: NDArray[np.float32] | None,
    progress: Progress,
) -> StepReport:
    processing = plan.vision.processing
    report = adapt_tower(
        tower,
        out,
        TowerShape(
            height=processing.height,
            width=processing.width,
            image_tokens=plan.vision.image_tokens_per_tile,
            embedding_width=plan.vision.embedding_width,
        ),
        projector=processor.projector,
        feature_layer=processor.vision.feature_layer,
        newline=processor.newline,
        markup=markup,
        progress=progress,
    )
    return replace(report, name=f"perceiver {report.name}")
