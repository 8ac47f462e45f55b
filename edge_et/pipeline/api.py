"""What a program asks for: a pipeline over a bundle, an answer, or what a bundle takes here."""

import functools
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, closing
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, ParamSpec, Unpack

from edge_et.bundle import Bundle, find_bundle, load_bundle
from edge_et.deprecation import renamed_keywords
from edge_et.errors import DecodeError, MemoryBudgetError, ModelFileError
from edge_et.image import AnyImages, VisionTower
from edge_et.keywords import OptionValues, with_options
from edge_et.options import (
    DEFAULT_CACHE_BYTES,
    DEFAULT_IMAGE_CACHE_BYTES,
    DEFAULT_IMAGE_KV_BYTES,
    DEFAULT_MAX_IMAGES,
    DEFAULT_MAX_IMAGES_BYTES,
    DEFAULT_MAX_PIXELS,
    DEFAULT_MAX_WAITING,
    EngineName,
    KvType,
    LoadOptions,
    check_path,
    parse_load_options,
)
from edge_et.pipeline.asynchronous import Worker
from edge_et.pipeline.device_profile import DeviceProfile, apply_profile, cache_fingerprint
from edge_et.pipeline.extract_think import ExtractThink
from edge_et.pipeline.factory import kv_cache_bytes, open_model, open_pipeline
from edge_et.pipeline.image_cost import CALIBRATION_POSITIONS, Calibration, calibrate
from edge_et.pipeline.memory_planner import plan_memory
from edge_et.pipeline.preparation import Preparation
from edge_et.pipeline.settings import Settings
from edge_et.results import Answer
from edge_et.store import Snapshots, SnapshotStore
from edge_et.threads import choose_threads

P = ParamSpec("P")

logger = logging.getLogger(__name__)

_kept: dict[str | None, ExtractThink] = {}
_keeping = threading.RLock()  # a signal handler may ask where its own thread is loading


def _forget_kept() -> None:
    """Begin anew in a forked child, which cannot use what its parent opened."""
    global _kept, _keeping
    _kept, _keeping = {}, threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_kept)


@renamed_keywords(lookup="prompt_lookup")
def load(
    name_or_path: str | os.PathLike[str] | None = None,
    *,
    threads: int | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    image_cache_bytes: int = DEFAULT_IMAGE_CACHE_BYTES,
    image_kv_bytes: int = DEFAULT_IMAGE_KV_BYTES,
    max_images: int = DEFAULT_MAX_IMAGES,
    max_images_bytes: int = DEFAULT_MAX_IMAGES_BYTES,
    engine: EngineName | None = None,
    kv_type: KvType | None = None,
    max_kv_bytes: int | None = None,
    max_memory_bytes: int | None = None,
    contexts: int = 1,
    max_waiting: int = DEFAULT_MAX_WAITING,
    use_profile: bool = True,
    convert_weights: bool = True,
    prompt_lookup: bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_bytes: int = DEFAULT_CACHE_BYTES,
) -> ExtractThink:
    """Load a bundle.

    Args:
        name_or_path: the name of an installed bundle, or a bundle's folder; None: ``mini``.
        threads: threads of tower and language models, which take turns; None: the profile's, else
            the CPUs that this process may use. More than those are never used, and a wish for more
            is logged.
        max_pixels: most pixels of a picture, at least 1.
        image_cache_bytes: most bytes of image tokens that are remembered; 0 remembers none.
        image_kv_bytes: most bytes of memory for copies of what the KV cache held of pictures. Where
            a question is about several, each displaces the one before; its copy comes back for the
            next question, as behind a `confidence="control"`. Nothing is copied for other questions
            about one picture. 0 copies nothing.
        max_images: most pictures of one question, at least 1.
        max_images_bytes: most bytes of the pictures of one question together, where there are
            several: of files, arrays, and decoded pixels of PIL images.
        engine: what evaluates the language models: ``"llama"`` is llama.cpp, the reference,
            ``"prebuilt"`` its fork ik_llama.cpp, which comes compiled; None: one that is installed
            and right for the bundle.
        kv_type: number type of the KV caches; None: the profile's, else f16.
        max_kv_bytes: most bytes of the KV caches together, at least 1; None: any number. They are
            allocated whole, for the context lengths of the manifest, whatever is asked. What they
            leave is the most that `image_kv_bytes` may be.
        max_memory_bytes: most bytes of memory that this process has resident, with what it holds
            already, at least 1; None: any number. The bundle is opened so that it fits: see
            `ExtractThink.memory_plan` and docs/memory.md. Nothing is converted or compared for the
            next load then, and the tower's `ModelFileError` may come with the first picture.
        contexts: calls that may be under way at once, 1 to 64. They have KV caches of their own
            over one set of weights, and share the CPUs: one computes at a time, and gives way to a
            more urgent one between two steps. So a second one costs memory and speeds nothing up,
            but nobody waits for a whole answer before something urgent begins.
        max_waiting: calls that may wait to begin, beside one for each context, at least 0; more
            get a `QueueFullError` at once.
        use_profile: whether to use what `edge-et autotune` found for this bundle on this machine.
        convert_weights: whether language models may be opened from weights that were made of the
            bundle's, with the adapter merged, where that is faster or the only right way here. They
            lie in the user's caches, up to 1 GiB of them. Where no engine is right for the bundle's
            own, the first load makes them, which takes seconds; otherwise a thread of low priority
            does behind the first answer, and the next load uses them; `edge-et doctor` does it for
            programs that exit right behind their answer. Their rounding is another.
        prompt_lookup: whether to draft tokens from what was read and written before and to decode
            some at once, where that is faster. With the engine `prebuilt` and without flash
            attention it changes no answer, and None means that: there it is done, and nowhere else.
            Elsewhere a batch rounds differently from single steps, and what is drafted depends on
            measured times: where two tokens are nearly as probable, the same call may go on with
            the one or the other.
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
        EngineError: the engine is not installed, cannot be loaded, or needs what this CPU lacks; or
            none that is installed is right for a model.
        MemoryBudgetError: the KV caches would be larger than `max_kv_bytes`, or the process than
            `max_memory_bytes`; nothing was loaded.
        DecodeError: there is not enough memory for a KV cache.
    """
    options = parse_load_options(
        {
            "threads": threads,
            "max_pixels": max_pixels,
            "image_cache_bytes": image_cache_bytes,
            "image_kv_bytes": image_kv_bytes,
            "max_images": max_images,
            "max_images_bytes": max_images_bytes,
            "engine": engine,
            "kv_type": kv_type,
            "max_kv_bytes": max_kv_bytes,
            "max_memory_bytes": max_memory_bytes,
            "contexts": contexts,
            "max_waiting": max_waiting,
            "use_profile": use_profile,
            "convert_weights": convert_weights,
            "prompt_lookup": prompt_lookup,
            "cache_dir": cache_dir,
            "cache_bytes": cache_bytes,
        }
    )
    bundle = load_bundle(find_bundle(name_or_path))
    if options.use_profile:
        profiled, profile = apply_profile(bundle)
        if profile is not None:
            try:
                return _open(profiled, options, profile)
            except (ModelFileError, DecodeError) as err:
                logger.warning("a profile is not used: %s; edge-et autotune makes a new one", err)
    return _open(bundle, options, None)


def _in_thread(
    opened: Callable[P, ExtractThink],
) -> Callable[P, Coroutine[Any, Any, ExtractThink]]:
    @functools.wraps(opened)
    async def call(*args: P.args, **keywords: P.kwargs) -> ExtractThink:
        deciding = threading.Lock()
        is_left = False
        loaded: list[ExtractThink] = []

        def work() -> ExtractThink:
            pipe = opened(*args, **keywords)
            with deciding:
                loaded.append(pipe)
                if not is_left:
                    return pipe
            pipe.close()
            return pipe

        worker = Worker()
        try:
            return await worker.submit(work)
        except BaseException:
            with deciding:
                is_left = True
            for pipe in loaded:
                pipe.close()
            raise
        finally:
            worker.end()

    call.__name__ = call.__qualname__ = "aload"
    call.__doc__ = """Load a bundle in an asyncio program, whose loop goes on meanwhile; see `load`.

    A task that is cancelled ends at once; what it was loading is closed when it is there.
    """
    return call


aload = _in_thread(load)


def _open(bundle: Bundle, options: LoadOptions, profile: DeviceProfile | None) -> ExtractThink:
    settings = Settings.of(options, profile)
    image_kv_bytes = options.image_kv_bytes
    converts_weights, plan = options.convert_weights, None
    if options.max_memory_bytes is not None:
        plan = plan_memory(bundle, settings, options)
        bundle, settings = plan.bundle(bundle), plan.settings(settings)
        image_kv_bytes, converts_weights = plan.image_kv_bytes, plan.converts_weights
    if options.max_kv_bytes is not None:
        needed_bytes = kv_cache_bytes(bundle, settings.kv_type, settings.contexts)
        if needed_bytes > options.max_kv_bytes:
            raise MemoryBudgetError(needed_bytes, options.max_kv_bytes)
        image_kv_bytes = min(image_kv_bytes, options.max_kv_bytes - needed_bytes)
    snapshots = None
    if options.cache_dir is not None:
        try:
            snapshots = open_snapshots(Path(options.cache_dir), options.cache_bytes, settings)
        except (OSError, PackageNotFoundError) as err:
            logger.warning("nothing is kept in %s: %s", options.cache_dir, err)
    # It takes more memory than answers do.
    preparation = Preparation() if plan is None else None
    return open_pipeline(
        bundle,
        settings,
        snapshots=snapshots,
        open_model=functools.partial(
            open_model,
            snapshots=snapshots,
            image_kv_bytes=image_kv_bytes,
            engine=settings.engine,
            kv_type=settings.kv_type,
            flash_attention=settings.flash_attention,
            convert_weights=converts_weights,
            makes=plan is None,
            mapped=settings.maps_weights,
            preparation=preparation,
        ),
        preparation=preparation,
        memory_plan=plan,
    )


def open_snapshots(folder: Path, limit_bytes: int, settings: Settings) -> Snapshots:
    """Return the snapshots in a folder, of which nothing is touched yet.

    Args:
        folder: see `load`, `cache_dir`.
        limit_bytes: most bytes in there.
        settings: how bundles are opened.

    Raises:
        OSError: the folder is relative, and where this process works is gone.
        PackageNotFoundError: the version of a library cannot be told.
    """
    store = SnapshotStore(folder.absolute() / "snapshots", limit_bytes)
    facts = cache_fingerprint(settings.threads, flash_attention=settings.flash_attention)
    return Snapshots(store, facts)


@with_options
def answer(
    image: AnyImages,
    question: str,
    model: str | os.PathLike[str] | None = None,
    **options: Unpack[OptionValues],
) -> Answer:
    """Answer a question about a picture, or about several.

    Every model that is asked for is loaded once and kept until the process ends; use `load` to
    decide that yourself. May be called from several threads. A forked child loads its own.

    A bundle of a model that was never tuned to describe may say that one stage is its default
    (`direct.default`). Then a free answer about one picture has no extraction, unless an option
    asks for what belongs to two stages: `hint`, `look_again`, `thinking`, their budgets, `history`,
    `choices`, `kind`, `schema`.

    Args:
        image: a path, bytes, a binary file object, a PIL image or a uint8 array
            of shape [height, width, 3]; or a list or tuple of up to 16 of them.
        question: one or more sentences.
        model: as for `load`.
        max_tiles: most tiles of the picture; this and what follows: None is the bundle's default.
        pooling: 2 makes blocks of 2x2 of a tile's tokens one.
        max_extraction_tokens: budget of stage 1, at least 1.
        max_thinking_tokens: budget of stage 2 before the answer, at least 0.
        max_answer_tokens: budget of the answer, at least 1.
        temperature: 0 to 10; 0 takes the most probable token, in both stages.
        top_p: probability mass of the tokens chosen among, over 0 and up to 1.
        seed: same seed, same text; for temperatures over 0.
        hint: what stage 1 is to pay special attention to.
        look_again: 0 to 8: how often the reasoner may ask stage 1 for a detail that it misses, at
            most; `Answer.details` tells for what. Not for several pictures that are not shown
            together.
        thinking: whether a reasoner that marks its thoughts has any.
        deadline_s: time for the whole answer, counted from the call, seconds.
        choices: 2 to 256 texts, one of which is the answer: that which the model finds most
            probable as a whole, behind its reasoning. `Answer.shares` tells of the others.
        kind: ``"yes/no"``: the answer is yes or no, and `Answer.value` a bool. ``"number"``: it is
            a number in digits, and the value an int or a float.
        schema: the answer is JSON that fits it, in any case, and `Answer.value` the object. A JSON
            schema as a dict, or a class: a dataclass, a TypedDict, a `msgspec.Struct` or a pydantic
            model. Needs the extra ``schema``; a `MissingExtraError` says so. What a class checks
            beyond its schema raises an `AnswerValueError`.
        history: what stage 2 reads before the question, and stage 1 does not: instructions and
            earlier turns, up to 1000 of ``{"role": "system", "content": text}``; other roles are
            ``"user"`` and ``"assistant"``. Instructions are put in place of the chat format's own.
        stop: up to 16 texts of up to 256 characters; the answer ends before the first one that has
            other text before it. Not for answers in a form: `choices`, `kind`, `schema`.
        top_logprobs: 0 to 20: `Answer.logprobs` tells how probable each token of the answer was,
            and so many of the most probable ones. Not for answers in a form either.
        confidence: ``"written"``: `Answer.confidence` tells how sure the answer is, by how probable
            the models found what they wrote. ``"control"``: also how sure the same answer is where
            stage 2 is asked without the extraction, which takes another short prompt; skipped where
            there is no time for it. docs/confidence.md has figures.

    Raises:
        EdgeETError: as for `load` and `ExtractThink.answer`.
    """
    key = None if model is None else check_path("model", model)
    with _keeping:
        if key not in _kept:
            _kept[key] = load(model)
    return _kept[key].answer(image, question, **options)


def measure(bundle: Bundle, *, threads: int | None = None) -> Calibration:
    """Measure on this machine what a bundle takes for one tile and for a short prompt.

    Its tower and perceiver are opened and closed again, with a cache for that prompt alone.

    Args:
        bundle: from `edge_et.load_bundle`.
        threads: as for `load`, without a profile.

    Raises:
        ModelFileError: a model cannot be used.
        OptionError: an argument is out of its range.
        VisionRunError: the vision tower failed.
        DecodeError: the language model failed.
    """
    settings = Settings(threads=choose_threads(threads))
    vision, spec = bundle.manifest.vision, bundle.manifest.perceiver
    with ExitStack() as resources:
        tower = VisionTower(bundle.path(vision.graph), vision, settings.threads)
        resources.enter_context(closing(tower))
        model = open_model(bundle, spec, None)
        resources.enter_context(closing(model))
        kv_cache = model.new_kv_cache(settings.kv_cache(CALIBRATION_POSITIONS + 1))
        return calibrate(tower, kv_cache, vision.processing)
