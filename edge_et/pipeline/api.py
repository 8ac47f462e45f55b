"""What a program asks for: a pipeline over a bundle, an answer, or what a bundle takes here."""

import functools
import os
import threading
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Unpack, get_args

from edge_et.bundle import Bundle, find_bundle, load_bundle
from edge_et.errors import MemoryBudgetError, OptionError
from edge_et.image import ImageSource, VisionTower
from edge_et.llm import KvType
from edge_et.options import (
    DEFAULT_CACHE_BYTES,
    DEFAULT_IMAGE_CACHE_BYTES,
    DEFAULT_MAX_PIXELS,
    OptionValues,
    check_at_least,
    default_threads,
)
from edge_et.pipeline.device_profile import Settings, rounding_facts, tuned
from edge_et.pipeline.extract_think import ExtractThink
from edge_et.pipeline.factory import kv_cache_bytes, open_model, open_pipeline, open_weights
from edge_et.pipeline.image_cost import CALIBRATION_POSITIONS, Calibration, calibrate
from edge_et.results import Answer
from edge_et.store import Snapshots, SnapshotStore

_kept: dict[str | None, ExtractThink] = {}
_keeping = threading.Lock()


def load(
    name_or_path: str | os.PathLike[str] | None = None,
    *,
    threads: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    image_cache_bytes: int = DEFAULT_IMAGE_CACHE_BYTES,
    kv_type: KvType | None = None,
    max_kv_bytes: int | None = None,
    use_profile: bool = True,
    lookup: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
) -> ExtractThink:
    """Load a bundle.

    Args:
        name_or_path: the name of an installed bundle, or a bundle's folder; None: ``mini``.
        threads: threads of tower and language models, which take turns; None: the CPUs that this
            process may use.
        max_pixels: most pixels of a picture, at least 1.
        image_cache_bytes: most bytes of image tokens that are remembered; 0 remembers none.
        kv_type: number type of the KV caches; None: the profile's, else f16.
        max_kv_bytes: most bytes of the KV caches together, at least 1; None: any number. They are
            allocated whole, for the context lengths of the manifest, whatever is asked.
        use_profile: whether to use what `edge-et tune` found for this bundle on this machine.
        lookup: whether to guess tokens from what was read and written before and to evaluate some
            at once, where that is faster; see `edge_et.generation.prompt_lookup`. A batch rounds
            differently from single steps, and what is guessed depends on measured times: where two
            tokens are nearly as probable, the same call may go on with the one or the other.
        cache_dir: a folder in which image tokens and the KV caches of images are kept, so that a
            program that is started again runs neither tower nor prefill for a picture that it knew.
            Processes and bundles may share it; it changes no answer, and where it cannot be used,
            that is logged. The tower is opened for the first picture that is not there, and its
            `ModelFileError` comes then. None keeps nothing.
        cache_bytes: most bytes in there, at least 0; what was unused for longest is deleted first.
            What needs more than a quarter of them is not kept.

    Returns:
        The pipeline: a context manager, to be closed.

    Raises:
        BundleError: the bundle cannot be used; a child says why.
        OptionError: an argument is out of its range.
        MemoryBudgetError: the KV caches would be larger than `max_kv_bytes`; nothing was loaded.
        DecodeError: there is not enough memory for a KV cache.
    """
    if threads is not None:
        check_at_least("threads", threads, 1)
    check_at_least("max_pixels", max_pixels, 1)
    check_at_least("image_cache_bytes", image_cache_bytes, 0)
    check_at_least("cache_bytes", cache_bytes, 0)
    if kv_type is not None and kv_type not in get_args(KvType):
        raise OptionError("kv_type", kv_type, f"one of {', '.join(get_args(KvType))}")
    if max_kv_bytes is not None:
        check_at_least("max_kv_bytes", max_kv_bytes, 1)
    bundle = load_bundle(find_bundle(name_or_path))
    settings = Settings()
    if use_profile:
        bundle, settings = tuned(bundle)
    threads = threads or settings.threads or default_threads()
    settings = replace(
        settings, threads=threads, kv_type=kv_type or settings.kv_type, lookup=lookup
    )
    if max_kv_bytes is not None:
        needed_bytes = kv_cache_bytes(bundle, settings.kv_type)
        if needed_bytes > max_kv_bytes:
            raise MemoryBudgetError(needed_bytes, max_kv_bytes)
    snapshots = None
    if cache_dir is not None:
        snapshots = open_snapshots(Path(cache_dir), cache_bytes, settings)
    return open_pipeline(
        bundle,
        settings,
        max_pixels=max_pixels,
        image_cache_bytes=image_cache_bytes,
        snapshots=snapshots,
        open_model=functools.partial(open_model, snapshots=snapshots),
    )


def open_snapshots(folder: Path, limit_bytes: int, settings: Settings) -> Snapshots:
    """Return the snapshots in a folder, of which nothing is touched yet.

    Args:
        folder: see `load`, `cache_dir`.
        limit_bytes: most bytes in there.
        settings: how bundles are opened.
    """
    store = SnapshotStore(folder.absolute() / "snapshots", limit_bytes)
    return Snapshots(store, rounding_facts(settings))


def answer(
    image: ImageSource,
    question: str,
    model: str | os.PathLike[str] | None = None,
    **options: Unpack[OptionValues],
) -> Answer:
    """Answer a question about a picture.

    Every model that is asked for is loaded once and kept until the process ends; use `load` to
    decide that yourself. May be called from several threads.

    Args:
        image: a path, bytes, a binary file object, a PIL image or a uint8 array
            of shape [height, width, 3].
        question: one or more sentences.
        model: as for `load`.
        options: see `edge_et.options.AnswerOptions`.

    Raises:
        EdgeETError: as for `load` and `ExtractThink.answer`.
    """
    key = None if model is None else os.fspath(model)
    with _keeping:
        if key not in _kept:
            _kept[key] = load(model)
    return _kept[key].answer(image, question, **options)


def measure(bundle: Bundle, *, threads: int | None = None) -> Calibration:
    """Measure on this machine what a bundle takes for one tile and for a short prompt.

    Its tower and perceiver are opened and closed again, with a cache for that prompt alone.

    Args:
        bundle: from `edge_et.load_bundle`.
        threads: as for `load`.

    Raises:
        ModelFileError: a model cannot be used.
        OptionError: an argument is out of its range.
        VisionRunError: the vision tower failed.
        DecodeError: the language model failed.
    """
    threads = default_threads() if threads is None else threads
    check_at_least("threads", threads, 1)
    vision, spec = bundle.manifest.vision, bundle.manifest.perceiver
    with ExitStack() as resources:
        tower = VisionTower(bundle.path(vision.graph), vision, threads)
        resources.enter_context(closing(tower))
        model = open_weights(bundle, spec, spec.vocabulary_size)
        resources.enter_context(closing(model))
        context = model.new_context(CALIBRATION_POSITIONS, threads, "f16")
        return calibrate(tower, context, vision.processing)
