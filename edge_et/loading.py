"""From a bundle to a pipeline: opens the models and checks that they are what the manifest says."""

import os
import threading
from contextlib import ExitStack, closing
from typing import Unpack, get_args

from edge_et.bundle import Bundle, find_bundle, load_bundle
from edge_et.cost import CALIBRATION_POSITIONS, Calibration, calibrate
from edge_et.decoder import KvType
from edge_et.errors import MemoryBudgetError, ModelFileError, OptionError
from edge_et.image import ImageSource
from edge_et.llm import LanguageModel, read_shape
from edge_et.manifest import LanguageModelSpec
from edge_et.options import (
    DEFAULT_IMAGE_CACHE_BYTES,
    DEFAULT_MAX_PIXELS,
    OptionValues,
    check_at_least,
    default_threads,
)
from edge_et.pipeline import ExtractThink
from edge_et.results import Answer
from edge_et.stages import Speaker
from edge_et.tokenizer import Tokenizer
from edge_et.vision import VisionTower

_kept: dict[str | None, ExtractThink] = {}
_keeping = threading.Lock()


def load(
    name_or_path: str | os.PathLike[str] | None = None,
    *,
    threads: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    image_cache_bytes: int = DEFAULT_IMAGE_CACHE_BYTES,
    kv_type: KvType = "f16",
    max_kv_bytes: int | None = None,
) -> ExtractThink:
    """Load a bundle.

    Args:
        name_or_path: the name of an installed bundle, or a bundle's folder; None: ``mini``.
        threads: threads of tower and language models, which take turns; None: the CPUs that this
            process may use.
        max_pixels: most pixels of a picture, at least 1.
        image_cache_bytes: most bytes of image tokens that are remembered; 0 remembers none.
        kv_type: number type of the KV caches.
        max_kv_bytes: most bytes of the KV caches together, at least 1; None: any number. They are
            allocated whole, for the context lengths of the manifest, whatever is asked.

    Returns:
        The pipeline: a context manager, to be closed.

    Raises:
        BundleError: the bundle cannot be used; a child says why.
        OptionError: an argument is out of its range.
        MemoryBudgetError: the KV caches would be larger than `max_kv_bytes`; nothing was loaded.
        DecodeError: there is not enough memory for a KV cache.
    """
    threads = default_threads() if threads is None else threads
    check_at_least("threads", threads, 1)
    check_at_least("max_pixels", max_pixels, 1)
    check_at_least("image_cache_bytes", image_cache_bytes, 0)
    if kv_type not in get_args(KvType):
        raise OptionError("kv_type", kv_type, f"one of {', '.join(get_args(KvType))}")
    if max_kv_bytes is not None:
        check_at_least("max_kv_bytes", max_kv_bytes, 1)
    bundle = load_bundle(find_bundle(name_or_path))
    manifest = bundle.manifest
    if max_kv_bytes is not None:
        needed_bytes = _cache_bytes(bundle, kv_type)
        if needed_bytes > max_kv_bytes:
            raise MemoryBudgetError(needed_bytes, max_kv_bytes)
    with ExitStack() as resources:
        vision = manifest.vision
        tower = VisionTower(bundle.path(vision.graph), vision, threads)
        resources.enter_context(closing(tower))
        perceiver = _open_speaker(bundle, manifest.perceiver, threads, kv_type, resources)
        reasoner = None
        if manifest.reasoner is not None:
            reasoner = _open_speaker(bundle, manifest.reasoner, threads, kv_type, resources)
        return ExtractThink(
            manifest,
            tower=tower,
            perceiver=perceiver,
            reasoner=reasoner,
            bundle=bundle,
            resources=resources.pop_all(),
            max_pixels=max_pixels,
            image_cache_bytes=image_cache_bytes,
        )


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
        model = LanguageModel(
            bundle.path(spec.weights),
            spec,
            adapter=None if spec.adapter is None else bundle.path(spec.adapter),
            token_count=spec.vocabulary_size,
        )
        resources.enter_context(closing(model))
        context = model.new_context(CALIBRATION_POSITIONS, threads, "f16")
        return calibrate(tower, context, vision.processing)


def _cache_bytes(bundle: Bundle, kv_type: KvType) -> int:
    """Return what the KV caches of a bundle take together; no weights are loaded."""
    specs = (bundle.manifest.perceiver, bundle.manifest.reasoner)
    return sum(
        read_shape(bundle.path(spec.weights)).cache_bytes(spec.context_length, kv_type)
        for spec in specs
        if spec is not None
    )


def _open_speaker(
    bundle: Bundle, spec: LanguageModelSpec, threads: int, kv_type: KvType, resources: ExitStack
) -> Speaker:
    path = bundle.path(spec.tokenizer)
    tokenizer = Tokenizer(path)
    if tokenizer.size > spec.vocabulary_size:
        raise ModelFileError(
            path, f"it has {tokenizer.size} tokens, the manifest says {spec.vocabulary_size}"
        )
    stop_ids = {text: tokenizer.special_id(text) for text in spec.chat.stop_tokens}
    for text, token in stop_ids.items():
        if token is None:
            raise ModelFileError(path, f"it has no added token {text!r}, a stop token of the chat")
    model = LanguageModel(
        bundle.path(spec.weights),
        spec,
        adapter=None if spec.adapter is None else bundle.path(spec.adapter),
        token_count=tokenizer.size,
    )
    resources.enter_context(closing(model))
    return Speaker(
        tokenizer=tokenizer,
        context=model.new_context(spec.context_length, threads, kv_type),
        chat=spec.chat,
        stop_ids=frozenset(token for token in stop_ids.values() if token is not None),
    )
