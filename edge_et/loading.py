"""From a bundle to a pipeline: opens the models and checks that they are what the manifest says."""

import functools
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Protocol, Unpack, get_args

from edge_et.bundle import Bundle, find_bundle, load_bundle
from edge_et.cost import CALIBRATION_POSITIONS, Calibration, calibrate
from edge_et.deadline import Pace
from edge_et.decoder import KvType
from edge_et.errors import MemoryBudgetError, ModelFileError, OptionError
from edge_et.evaluator import Evaluator
from edge_et.hints import PLACE
from edge_et.image import ImageSource
from edge_et.llama import read_shape
from edge_et.llm import LanguageModel
from edge_et.lookup import MOST_GUESSED, Lookup
from edge_et.manifest import LanguageModelSpec, Manifest, ThinkSpec
from edge_et.options import (
    DEFAULT_CACHE_BYTES,
    DEFAULT_IMAGE_CACHE_BYTES,
    DEFAULT_MAX_PIXELS,
    OptionValues,
    check_at_least,
    default_threads,
)
from edge_et.pipeline import ExtractThink
from edge_et.prefixes import ImagePrefixes
from edge_et.profile import Settings, rounding_facts, tuned
from edge_et.results import Answer
from edge_et.snapshots import Snapshots, SnapshotStore
from edge_et.tokenizer import Tokenizer
from edge_et.vision import DeferredTower, VisionTower
from edge_et.writing import Speaker

_HINT_POSITIONS = 1024
"""Most positions of the cache that hints are asked for in: a question, its frame and the hint."""

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
            at once, where that is faster; see `edge_et.lookup`. A batch rounds differently from
            single steps, and what is guessed depends on measured times: where two tokens are nearly
            as probable, the same call may go on with the one or the other.
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
        needed_bytes = _cache_bytes(bundle, settings.kv_type)
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


class Model(Protocol):
    """What a pipeline needs of an opened language model; `edge_et.llm.LanguageModel` is one."""

    def new_context(
        self,
        context_length: int,
        threads: int,
        kv_type: KvType,
        *,
        flash_attention: bool = False,
        most_guesses: int = 0,
    ) -> Evaluator:
        """Make a KV cache over it."""

    def close(self) -> None:
        """Free it and its KV caches."""


OpenModel = Callable[[Bundle, LanguageModelSpec, Tokenizer], Model]
"""Opens a language model of a bundle, given its tokenizer."""


def open_model(
    bundle: Bundle,
    spec: LanguageModelSpec,
    tokenizer: Tokenizer,
    snapshots: Snapshots | None = None,
) -> LanguageModel:
    """Open a language model of a bundle with llama.cpp.

    Args:
        bundle: a bundle.
        spec: one of its models.
        tokenizer: the model's.
        snapshots: keep what its KV caches hold of images; None: nobody does.

    Raises:
        ModelFileError: it cannot be used.
    """
    prefixes = None if snapshots is None else ImagePrefixes(snapshots, spec)
    return _open_weights(bundle, spec, tokenizer.size, prefixes)


def open_pipeline(
    bundle: Bundle,
    settings: Settings,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    image_cache_bytes: int = DEFAULT_IMAGE_CACHE_BYTES,
    snapshots: Snapshots | None = None,
    open_model: OpenModel = open_model,
) -> ExtractThink:
    """Open the parts of a bundle and put them together.

    `load` does it with what the caller and the profile say; tools put other models in.

    Args:
        bundle: from `edge_et.load_bundle`.
        settings: how to open them.
        max_pixels: as for `load`.
        image_cache_bytes: as for `load`.
        snapshots: keep image tokens; the tower is opened when it first has to run. Given to the
            models by whoever opens them. None: nobody keeps anything.
        open_model: opens its language models.

    Returns:
        The pipeline: a context manager, to be closed.

    Raises:
        ModelFileError: a model cannot be used.
        DecodeError: there is not enough memory for a KV cache.
    """
    manifest = bundle.manifest
    threads = settings.threads or default_threads()
    with ExitStack() as resources:
        graph = bundle.path(manifest.vision.graph)
        opened_tower = functools.partial(VisionTower, graph, manifest.vision, threads)
        tower = opened_tower() if snapshots is None else DeferredTower(opened_tower)
        resources.enter_context(closing(tower))

        def opened(spec: LanguageModelSpec) -> _Opened:
            return _Opened(bundle, spec, settings, open_model, resources)

        perceiver = thinker = opened(manifest.perceiver)
        reads = perceiver.speaker()
        reasoner = hinter = None
        if manifest.reasoner is not None:
            thinker = opened(manifest.reasoner)
        if _has_own_cache(manifest):
            reasoner = thinker.speaker()
        thinker.check_thoughts(manifest.think)
        if _asks_for_hints(manifest):
            hinter = thinker.speaker(_HINT_POSITIONS)
        return ExtractThink(
            manifest,
            tower=tower,
            perceiver=reads,
            reasoner=reasoner,
            hinter=hinter,
            bundle=bundle,
            resources=resources.pop_all(),
            max_pixels=max_pixels,
            image_cache_bytes=image_cache_bytes,
            snapshots=snapshots,
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
        model = _open_weights(bundle, spec, spec.vocabulary_size)
        resources.enter_context(closing(model))
        context = model.new_context(CALIBRATION_POSITIONS, threads, "f16")
        return calibrate(tower, context, vision.processing)


def _open_weights(
    bundle: Bundle,
    spec: LanguageModelSpec,
    token_count: int,
    prefixes: ImagePrefixes | None = None,
) -> LanguageModel:
    return LanguageModel(
        bundle.path(spec.weights),
        spec,
        adapter=None if spec.adapter is None else bundle.path(spec.adapter),
        token_count=token_count,
        prefixes=prefixes,
    )


def _cache_bytes(bundle: Bundle, kv_type: KvType) -> int:
    """Return what the KV caches of a bundle take together; no weights are loaded."""
    manifest = bundle.manifest
    thinker = manifest.reasoner or manifest.perceiver
    caches = [(manifest.perceiver, manifest.perceiver.context_length)]
    if _has_own_cache(manifest):
        caches.append((thinker, thinker.context_length))
    if _asks_for_hints(manifest):
        caches.append((thinker, min(thinker.context_length, _HINT_POSITIONS)))
    return sum(
        read_shape(bundle.path(spec.weights)).cache_bytes(positions, kv_type)
        for spec, positions in caches
    )


def _has_own_cache(manifest: Manifest) -> bool:
    """Return whether stage 2 is a conversation of its own."""
    return manifest.reasoner is not None or manifest.think.sees == "extraction"


def _asks_for_hints(manifest: Manifest) -> bool:
    return manifest.extract.hint is not None and PLACE in manifest.extract.prompt


class _Opened:
    """An opened language model, with a speaker over it."""

    def __init__(
        self,
        bundle: Bundle,
        spec: LanguageModelSpec,
        settings: Settings,
        open_model: OpenModel,
        resources: ExitStack,
    ) -> None:
        self._tokenizer_path = bundle.path(spec.tokenizer)
        self._spec = spec
        self._pace = Pace()
        self._lookup = Lookup() if settings.lookup else None
        self._settings = settings
        self._tokenizer = tokenizer = Tokenizer(self._tokenizer_path)
        if tokenizer.size > spec.vocabulary_size:
            raise ModelFileError(
                self._tokenizer_path,
                f"it has {tokenizer.size} tokens, the manifest says {spec.vocabulary_size}",
            )
        self._stop_ids = frozenset(
            self._added_token(text, "a stop token of the chat") for text in spec.chat.stop_tokens
        )
        self._model = open_model(bundle, spec, tokenizer)
        resources.enter_context(closing(self._model))

    def speaker(self, most_positions: int | None = None) -> Speaker:
        """Return somebody to talk to, with a cache of their own over these weights."""
        length = self._spec.context_length
        context = self._model.new_context(
            min(length, most_positions or length),
            self._settings.threads or default_threads(),
            self._settings.kv_type,
            flash_attention=self._settings.flash_attention,
            most_guesses=0 if self._lookup is None else MOST_GUESSED,
        )
        return Speaker(
            tokenizer=self._tokenizer,
            context=context,
            chat=self._spec.chat,
            stop_ids=self._stop_ids,
            pace=self._pace,
            lookup=self._lookup,
        )

    def check_thoughts(self, spec: ThinkSpec) -> None:
        """Refuse a tokenizer that lacks the tokens around thoughts."""
        if spec.thoughts is not None:
            for text in (spec.thoughts.start, spec.thoughts.end):
                self._added_token(text, "a mark of thoughts")

    def _added_token(self, text: str, role: str) -> int:
        token = self._tokenizer.special_id(text)
        if token is None:
            raise ModelFileError(self._tokenizer_path, f"it has no added token {text!r}, {role}")
        return token
