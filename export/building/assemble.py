"""Assemble a bundle.

In: the files of a bundle, and a template that holds what no file can tell (prompts, chat format,
image processing, sources). Out: a folder with bundle.json, which the runtime has loaded before it
appears, and whose models have answered. Widths and sizes are read from the files, never typed in.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from edge_et.bundle import (
    MANIFEST_NAME,
    ChatSpec,
    Check,
    DirectSpec,
    ExtractSpec,
    FileRef,
    LanguageModelSpec,
    Manifest,
    MarkupSpec,
    Processing,
    Source,
    ThinkSpec,
    VisionSpec,
    file_ref,
    resolve,
    save_manifest,
)
from edge_et.export.building.known_answers import add_known_answers
from edge_et.export.checkpoint.checkpoint_folder import read_json
from edge_et.export.errors import AssemblyError
from edge_et.export.steps import (
    Progress,
    StepReport,
    Stopwatch,
    atomic_output,
    needing_extra,
    no_progress,
)
from edge_et.pipeline import load

with needing_extra("assemble"):
    from edge_et.export.families.llm_registry import identify_gguf
    from edge_et.export.vision.onnx_graph import OUTPUT, data_path, open_session
    from edge_et.export.vision.onnx_writer import split_model


class ModelTemplate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What no file tells about a language model."""

    context_length: int
    chat: ChatSpec


class BundleTemplate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """bundle.json without files, widths and checks; the keys mean the same as there."""

    name: str
    version: str
    description: str
    processing: Processing
    arrangement: Literal["flat", "grid", "unpadded"] = "flat"
    pooling: Literal[1, 2] = 1
    markup: MarkupSpec | None = None
    places: Literal["line", "grid"] = "line"
    perceiver: ModelTemplate
    reasoner: ModelTemplate | None
    extract: ExtractSpec
    think: ThinkSpec
    direct: DirectSpec | None
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageFile:
    """A file of an installed Python package, which the bundle names rather than holds.

    Attributes:
        package: importable name of the package.
        path: of the file, relative to the package's folder, with slashes.
    """

    package: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """The files of one language model.

    Attributes:
        weights: a GGUF, to be copied, or one of a package.
        tokenizer: its tokenizer.json.
        adapter: a LoRA GGUF for it.
    """

    weights: Path | PackageFile
    tokenizer: Path
    adapter: Path | None = None


def read_template(path: Path) -> BundleTemplate:
    """Read a template from JSON.

    Args:
        path: the file.

    Raises:
        UnreadableCheckpointError: missing or not JSON.
        AssemblyError: a key is missing, unknown or of a wrong type.
    """
    try:
        return msgspec.convert(read_json(path), BundleTemplate)
    except msgspec.ValidationError as err:
        raise AssemblyError(f"{path}: {err}") from err


def assemble_bundle(
    template: BundleTemplate,
    out: Path,
    *,
    vision: Path,
    perceiver: ModelFiles,
    reasoner: ModelFiles | None = None,
    reports: Sequence[StepReport] = (),
    take_from: Path | None = None,
    progress: Progress = no_progress,
) -> StepReport:
    """Write a bundle and open it.

    Args:
        template: what the files do not tell.
        out: the folder to make; a bundle that is already there is replaced, another folder is not.
        vision: the ONNX graph.
        perceiver: files of the model that sees.
        reasoner: files of the model that thinks; None lets the perceiver do both.
        reports: of the steps before; those with an error become `checks` of the manifest.
        take_from: a folder whose files are moved into the bundle; others are copied.
        progress: told the steps.

    Returns:
        The bundle's bytes, files of packages left out.

    Raises:
        AssemblyError: files and template do not fit together, or `out` is not a bundle.
        BundleError: the runtime cannot load the bundle; its children tell why. Nothing is left
            behind.
        GraphError: the vision graph cannot be read.
        CheckpointError: a GGUF cannot be read.
        VisionRunError: the tower fails on a picture.
        DecodeError: a language model fails on a prompt.
    """
    watch = Stopwatch()
    reasoner_parts = None
    if template.reasoner is not None and reasoner is not None:
        reasoner_parts = (reasoner, template.reasoner)
    elif template.reasoner is not None or reasoner is not None:
        raise AssemblyError("a reasoner needs both a template and files")
    require_no_other_folder(out)
    with atomic_output(out) as folder:
        folder.mkdir()
        progress("put files together", 0, 3)
        place = _Place(folder, take_from)
        manifest = Manifest(
            name=template.name,
            version=template.version,
            description=template.description,
            vision=_vision_spec(place, vision, template),
            perceiver=_model_spec(place, "perceiver", perceiver, template.perceiver),
            reasoner=_model_spec(place, "reasoner", *reasoner_parts) if reasoner_parts else None,
            extract=template.extract,
            think=template.think,
            direct=template.direct,
            sources=template.sources,
            checks=tuple(
                Check(name=report.name, value=report.error, limit=report.limit, unit=report.measure)
                for report in reports
                if report.error is not None
            ),
        )
        save_manifest(manifest, folder)
        progress("open the bundle", 1, 3)
        load(folder, threads=1).close()
        progress("ask the models", 2, 3)
        add_known_answers(folder)
        if out.exists():
            out.rename(folder.with_name("replaced"))
    progress("ask the models", 3, 3)
    return StepReport(
        name="bundle",
        path=out,
        size_bytes=sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
        seconds=watch.seconds,
    )


def require_no_other_folder(out: Path) -> None:
    """Check that writing a bundle would replace nothing but a bundle.

    Args:
        out: where it shall be.

    Raises:
        AssemblyError: something else is there.
    """
    if out.exists() and not (out / MANIFEST_NAME).is_file():
        raise AssemblyError(f"{out} exists and is not a bundle; it is left alone")


def _vision_spec(place: "_Place", graph: Path, template: BundleTemplate) -> VisionSpec:
    tokens, width = token_shape(graph, template.processing)
    placed, weights = place.put_graph(graph)
    return VisionSpec(
        graph=placed,
        weights=weights,
        embedding_width=width,
        image_tokens_per_tile=tokens,
        processing=template.processing,
        arrangement=template.arrangement,
        pooling=template.pooling,
        markup=template.markup,
        places=template.places,
    )


def token_shape(graph: Path, processing: Processing) -> tuple[int, int]:
    """Give image tokens a tile and their width, as a vision graph says them.

    Args:
        graph: the ONNX file.
        processing: the bundle's rules, which tell the tokens where a graph takes tiles of many
            sizes.

    Raises:
        GraphError: it cannot be read.
        AssemblyError: it leaves a number open.
    """
    output = open_session(graph).get_outputs()[0]
    tokens, width = output.shape[1:]
    if (size := processing.whole_size) is not None:
        tokens = processing.height * processing.width // size.block**2
    if not isinstance(tokens, int) or not isinstance(width, int):
        raise AssemblyError(f"{graph} leaves the shape of {OUTPUT} open: {output.shape}")
    return tokens, width


def _model_spec(
    place: "_Place", role: str, files: ModelFiles, template: ModelTemplate
) -> LanguageModelSpec:
    if isinstance(files.weights, PackageFile):
        weights = _package_ref(files.weights)
        model = identify_gguf(resolve(weights, place.folder))
    else:
        model = identify_gguf(files.weights)
        weights = place.put(files.weights, f"{role}.gguf")
    tokenizer_name = "tokenizer.json" if role == "perceiver" else f"{role}-tokenizer.json"
    return msgspec.convert(
        {
            "weights": weights,
            "adapter": files.adapter and place.put(files.adapter, f"{role}-lora.gguf"),
            "tokenizer": place.put(files.tokenizer, tokenizer_name),
            "architecture": model.architecture,
            "embedding_width": model.embedding_width,
            "vocabulary_size": model.vocabulary_size,
            "context_length": template.context_length,
            "chat": template.chat,
        },
        LanguageModelSpec,
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """The bundle's folder, and the folder whose files may be moved into it."""

    folder: Path
    take_from: Path | None

    def put(self, source: Path, name: str) -> FileRef:
        """Copy or move a file into the bundle."""
        if not source.is_file():
            raise AssemblyError(f"{source} does not exist")
        if source.parent == self.take_from:
            shutil.move(source, self.folder / name)
        else:
            shutil.copyfile(source, self.folder / name)
        return file_ref(self.folder / name, self.folder)

    def put_graph(self, source: Path) -> tuple[FileRef, FileRef | None]:
        """Copy or move a vision graph into the bundle, its weights beside it."""
        graph = self.folder / "vision.onnx"
        split_model(source, graph)
        if source.parent == self.take_from:
            source.unlink()
            data_path(source).unlink(missing_ok=True)
        weights = data_path(graph)
        return (
            file_ref(graph, self.folder),
            file_ref(weights, self.folder) if weights.exists() else None,
        )


def _package_ref(file: PackageFile) -> FileRef:
    # The path is resolved by the loader's own rules before the file is hashed.
    unread = FileRef(path=file.path, size_bytes=1, sha256="0" * 64, package=file.package)
    return file_ref(resolve(unread, Path()), package=file.package)
