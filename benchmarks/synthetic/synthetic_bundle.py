"""Make a synthetic bundle once, in a folder of its own.

In: a shape, and the folder that such bundles are kept in. Out: a bundle.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from edge_et.benchmarks.synthetic.layouts import LAYOUTS
from edge_et.benchmarks.synthetic.mmproj import MMPROJ_NAME, write_mmproj
from edge_et.benchmarks.synthetic.qwen_tower import write_qwen_tower
from edge_et.benchmarks.synthetic.random_gguf import tensors_of, write_llm
from edge_et.benchmarks.synthetic.random_tower import tower_bytes, write_tower
from edge_et.benchmarks.synthetic.shapes import BundleShape, LlmShape
from edge_et.benchmarks.synthetic.siglip2_tower import write_siglip2_tower
from edge_et.benchmarks.synthetic.synthetic_tokenizer import new_tokenizer, write_tokenizer
from edge_et.bundle import (
    Bundle,
    ExtractSpec,
    LanguageModelSpec,
    Manifest,
    Processing,
    Sampling,
    Source,
    ThinkSpec,
    VisionSpec,
    WholeSize,
    file_ref,
    load_bundle,
    save_manifest,
)
from edge_et.errors import BenchError, BundleError
from edge_et.export.steps import Progress, no_progress
from edge_et.export.vision.onnx_graph import data_path
from edge_et.store import partial_folder, user_cache

VERSION = "4"
"""Of what is made; bundles of another version are made anew."""

_TOWER_SEED = 1


def default_folder() -> Path:
    """Return where synthetic bundles are kept: in the user's folder for caches."""
    return user_cache() / "synthetic"


def synthetic_bundle(shape: BundleShape, folder: Path, progress: Progress = no_progress) -> Bundle:
    """Return a bundle, which is made unless it is there.

    Args:
        shape: its dimensions; its name is that of its folder.
        folder: holds such bundles.
        progress: told what is written.

    Raises:
        BenchError: there is no room for it, or the operating system refuses.
    """
    path = folder / shape.name
    try:
        bundle = load_bundle(path)
        if bundle.manifest.version == VERSION:
            return bundle
    except (BundleError, OSError):
        pass  # not there, or a part of it, or not for this user to read, who may not write either
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _check_room(shape, folder)
        with partial_folder(folder) as draft:
            made = draft / shape.name
            made.mkdir()
            save_manifest(_write(shape, made, progress), made)
            if path.exists():
                shutil.rmtree(path)
            made.replace(path)
    except OSError as err:
        raise BenchError(f"{path} cannot be written: {err.strerror or err}") from err
    return load_bundle(path)


def size_bytes(shape: BundleShape) -> int:
    """Return about how large a bundle is."""
    models = (
        tensor.size_bytes for model in _models(shape).values() for tensor in tensors_of(model)
    )
    return 2 * tower_bytes(shape.tower, shape.perceiver.width) + sum(models)


def _check_room(shape: BundleShape, folder: Path) -> None:
    needed, free = size_bytes(shape), shutil.disk_usage(folder).free
    if needed > free:
        raise BenchError(
            f"{shape.name} takes {needed / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB left; "
            "give another folder"
        )


def _models(shape: BundleShape) -> dict[str, LlmShape]:
    models = {"perceiver": shape.perceiver}
    return models if shape.reasoner is None else models | {"reasoner": shape.reasoner}


def _write(shape: BundleShape, folder: Path, progress: Progress) -> Manifest:
    """Write the files of a bundle but for its manifest, and return that."""
    width = shape.perceiver.width
    layout = LAYOUTS[shape.tower.projector]
    graph = folder / "vision.onnx"
    marks = 0 if layout.markup is None else len(layout.markup.tokens)
    whole_size = None
    if layout.whole_tokens is None:
        write_tower(graph, shape.tower, width, _TOWER_SEED, progress, marks=marks)
        write_mmproj(folder / MMPROJ_NAME, shape.tower, width, _TOWER_SEED, progress)
    else:
        if shape.tower.projector == "lfm2":
            write_siglip2_tower(graph, shape.tower, width, _TOWER_SEED, progress, marks=marks)
        else:
            write_qwen_tower(graph, shape.tower, width, _TOWER_SEED, progress)
        fewest, most = layout.whole_tokens
        block = shape.tower.patch * shape.tower.shuffle
        whole_size = WholeSize(
            block=block, min_tokens=fewest, max_tokens=most, least_blocks=layout.least_blocks
        )
    specs = dict(_write_models(shape, folder, progress))
    think = "Description: {extraction}\nQuestion: {question}\nThink step by step, then answer."
    side = shape.tower.image
    return Manifest(
        name=shape.name.replace("+", "-"),
        version=VERSION,
        description="Random weights with true dimensions, to measure speed and memory alone.",
        vision=VisionSpec(
            graph=file_ref(graph),
            weights=file_ref(data_path(graph)),
            embedding_width=shape.perceiver.width,
            image_tokens_per_tile=shape.tower.image_tokens,
            processing=Processing(
                height=side,
                width=side,
                mean=layout.mean,
                std=layout.std,
                rescale=1 / 255,
                resample=layout.resample,
                fit="squash",
                tiling=layout.tiling,
                whole_size=whole_size,
            ),
            markup=layout.markup,
            places=layout.places,
        ),
        perceiver=specs["perceiver"],
        reasoner=specs.get("reasoner"),
        extract=ExtractSpec(
            prompt=(
                f"{layout.picture}Describe the fine-grained content of the image. "
                "Pay special attention to: {question}"
            ),
            max_extraction_tokens=256,
            sampling=Sampling(),
        ),
        think=ThinkSpec(
            prompt="Think step by step, then answer: {question}"
            if shape.reasoner is None
            else think,
            max_thinking_tokens=256,
            answer_marker="Answer:",
            max_answer_tokens=32,
            sampling=Sampling(),
        ),
        direct=None,
        sources=(
            Source(
                name="random numbers",
                version=VERSION,
                license="CC0-1.0",
                url="",
                used_for="all weights",
            ),
        ),
        checks=(),
    )


def _write_models(
    shape: BundleShape, folder: Path, progress: Progress
) -> Iterator[tuple[str, LanguageModelSpec]]:
    for seed, (role, model) in enumerate(_models(shape).items(), 2):
        layout = LAYOUTS[shape.tower.projector if role == "perceiver" else "mlp"]
        tokenizer = new_tokenizer(model.vocabulary, layout.marks, layout.first)
        write_tokenizer(folder / f"{role}-tokenizer.json", tokenizer)
        write_llm(folder / f"{role}.gguf", model, tokenizer, seed, progress)
        yield (
            role,
            LanguageModelSpec(
                weights=file_ref(folder / f"{role}.gguf"),
                adapter=None,
                tokenizer=file_ref(folder / f"{role}-tokenizer.json"),
                architecture=model.architecture,
                embedding_width=model.width,
                vocabulary_size=model.rows,
                context_length=shape.context_length,
                chat=layout.chat,
            ),
        )
