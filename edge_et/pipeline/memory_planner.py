"""How a bundle can be opened so that the process stays within a number of bytes.

In: a bundle, settings, a limit. Out: a `MemoryPlan`, with which nothing is open yet, or a
`MemoryBudgetError` that tells what each part takes. What a part takes is estimated by
`edge_et.pipeline.memory_parts`.

Ways to open a bundle are tried in the order of what they cost. The first ones change no bit of an
answer; weights that stay in their file are not laid out for the processor, which may round
differently; shorter contexts refuse what no longer fits. The number type of the KV caches and the
number of contexts are never changed: they decide answers, or are what the caller asked for.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from sys import maxsize

from edge_et.bundle import Bundle, LanguageModelSpec
from edge_et.errors import EngineError, MemoryBudgetError
from edge_et.image import load_tower_library, plan_image
from edge_et.llm import installed_engines, keep_heap_small, read_shape, trim_heap
from edge_et.options import EngineName, LoadOptions
from edge_et.pipeline.engine_choice import REFERENCE, EngineChoice
from edge_et.pipeline.engine_use import choose_on_machine
from edge_et.pipeline.factory import kv_caches
from edge_et.pipeline.memory_parts import (
    LEAST_PIXELS,
    LIBRARY_BYTES,
    PICTURE_PIXEL_BYTES,
    ModelParts,
    process_bytes,
    tower_bytes,
)
from edge_et.pipeline.memory_plan import MemoryPlan, with_contexts
from edge_et.pipeline.settings import Settings
from edge_et.weights import merged_bytes

_FEW_ROWS = 64
"""Rows of a batch where memory is short: a prompt takes a tenth longer to read than by 256."""

_TEXT_POSITIONS = 256  # of the frames of prompts, and a question of some sentences
_CONTEXT_STEP = 256  # engines allocate so many positions at once
_MANY_ROWS = 256  # of a batch where there is memory enough, in both engines
_FLOAT_BYTES = 4
_IN_TURNS = ("weights", "tower")  # parts that need not be resident at once
_SHARE_OF_IMAGE_TOKENS = 4  # the part of what is left that image tokens may take: a fourth

Choose = Callable[[LanguageModelSpec, bool], EngineChoice]
"""Chooses what opens a model, given whether weights may be used that were made of the bundle's.

Nothing of the choice is open."""


def plan_memory(
    bundle: Bundle,
    settings: Settings,
    options: LoadOptions,
    *,
    choose_engine: Choose | None = None,
    held_bytes: Callable[[], int | None] = process_bytes,
) -> MemoryPlan:
    """Find how a bundle is opened within `max_memory_bytes`.

    Args:
        bundle: a bundle.
        settings: how it is opened where there is memory enough.
        options: what the caller said; the limit is one of them.
        choose_engine: chooses engine and weights of a model; None: as a load does, with what is
            prepared. It may compare an engine with the reference, once a machine, for which the
            model is opened and closed again; it is only asked where the smallest weights fit.
        held_bytes: tells what the process takes now; None is what a system says that tells nothing,
            and counts as nothing.

    Raises:
        MemoryBudgetError: nothing fits.
        EngineError: no engine can be used for a model without work that takes more memory.
        ModelFileError: a model cannot be used.
    """
    assert options.max_memory_bytes is not None
    chooser = choose_engine or _chooser(bundle, settings)
    planner = _Planner(bundle, settings, options, options.max_memory_bytes, chooser, held_bytes)
    return planner.plan()


def estimate_memory(bundle: Bundle, settings: Settings) -> MemoryPlan:
    """Return what a bundle takes where there is memory enough; no model and no engine is opened.

    The larger form of weights is counted, and the engine that loads ask first.

    Args:
        bundle: a bundle.
        settings: how it is opened.

    Raises:
        ModelFileError: a model's weights are damaged.
        UnreadableFileError: they cannot be read.
    """
    chooser = _chooser(bundle, settings)
    return _Planner(bundle, settings, LoadOptions(), maxsize, chooser, process_bytes).estimate()


def _chooser(bundle: Bundle, settings: Settings) -> Choose:
    def chosen(spec: LanguageModelSpec, converts: bool) -> EngineChoice:
        found = choose_on_machine(bundle, spec, settings, converts=converts, makes=False)
        if found.later is not None and found.engine.name != REFERENCE:
            raise EngineError(
                found.engine.name,
                f"the engine {found.engine.name!r} was not compared with the reference for "
                f"{found.weights} yet, which takes more memory than an answer: run `edge-et "
                "doctor` once, or load the bundle once without max_memory_bytes",
            )
        return found

    return chosen


@dataclass(frozen=True, slots=True)
class _Way:
    """A way to open a bundle; see the plan's attributes of the same names."""

    keeps_tower: bool
    maps_weights: bool
    batch_positions: int | None


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A plan, and the bytes that it needs for the least that is promised: a small picture."""

    needed_bytes: int
    plan: MemoryPlan


_WAYS = (
    _Way(keeps_tower=True, maps_weights=False, batch_positions=None),
    _Way(keeps_tower=True, maps_weights=False, batch_positions=_FEW_ROWS),
    _Way(keeps_tower=False, maps_weights=True, batch_positions=None),
    _Way(keeps_tower=False, maps_weights=True, batch_positions=_FEW_ROWS),
)


class _Planner:
    def __init__(
        self,
        bundle: Bundle,
        settings: Settings,
        options: LoadOptions,
        limit_bytes: int,
        choose: Choose,
        held_bytes: Callable[[], int | None],
    ) -> None:
        self._bundle, self._settings, self._options = bundle, settings, options
        self._limit_bytes = limit_bytes
        self._choose, self._held_bytes = choose, held_bytes
        manifest = bundle.manifest
        self._specs = [spec for spec in (manifest.perceiver, manifest.reasoner) if spec is not None]
        self._least_pixels = min(LEAST_PIXELS, settings.max_pixels)
        self._held = 0

    def plan(self) -> MemoryPlan:
        """See `plan_memory`."""
        keep_heap_small()
        load_tower_library()
        self._look_at_process()
        lengths = tuple(self._context_lengths())
        smallest = [self._unopened(spec, REFERENCE, min) for spec in self._specs]
        self._check([self._planned(smallest, _WAYS[-1], lengths[-1], converts=False)])
        forms: dict[bool, Sequence[ModelParts]] = {}
        tried: list[_Candidate] = []
        for of_contexts in lengths:
            for converts in (True, False) if self._options.convert_weights else (False,):
                if converts not in forms:
                    forms[converts] = self._forms(converts, others=bool(forms))
                    self._look_at_process()
                for way in _WAYS if forms[converts] else ():
                    candidate = self._planned(forms[converts], way, of_contexts, converts=converts)
                    if candidate.needed_bytes <= self._limit_bytes:
                        return candidate.plan
                    tried.append(candidate)
        self._check(tried)
        raise AssertionError("none of them fits")

    def estimate(self) -> MemoryPlan:
        """See `estimate_memory`."""
        load_tower_library()
        self._look_at_process()
        usable = (found.name for found in installed_engines() if not found.missing)
        engine: EngineName = next(usable, REFERENCE)
        models = [self._unopened(spec, engine, max) for spec in self._specs]
        return self._planned(models, _WAYS[0], next(self._context_lengths()), converts=True).plan

    def _look_at_process(self) -> None:
        trim_heap()
        self._held = self._held_bytes() or 0

    def _unopened(
        self, spec: LanguageModelSpec, engine: EngineName, choose_form: Callable[[int, int], int]
    ) -> ModelParts:
        """Return what a model needs in one of both forms of its weights."""
        weights = self._bundle.path(spec.weights)
        file_bytes = spec.weights.size_bytes
        if self._options.convert_weights:
            file_bytes = choose_form(file_bytes, merged_bytes(weights))
        return ModelParts(
            engine=engine,
            file_bytes=file_bytes,
            shape=read_shape(weights),
            vocabulary_size=spec.vocabulary_size,
        )

    def _forms(self, converts: bool, *, others: bool) -> Sequence[ModelParts]:
        """Return how the models would be opened; nothing where they cannot, and can otherwise."""
        try:
            return [self._opened_by(spec, converts) for spec in self._specs]
        except EngineError:
            if others:
                return ()
            raise

    def _opened_by(self, spec: LanguageModelSpec, converts: bool) -> ModelParts:
        choice = self._choose(spec, converts)
        choice.engine.open()
        files = (choice.weights, *((choice.adapter,) if choice.adapter else ()))
        return ModelParts(
            engine=choice.engine.name,
            file_bytes=sum(file.stat().st_size for file in files),
            shape=read_shape(choice.weights),
            vocabulary_size=spec.vocabulary_size,
        )

    def _context_lengths(self) -> Iterator[tuple[int, ...]]:
        """Yield the lengths of the contexts, those of the manifest first, then shorter ones."""
        manifest = self._bundle.manifest
        lengths = tuple(spec.context_length for spec in self._specs)
        think = manifest.think.max_thinking_tokens + manifest.think.max_answer_tokens
        told = manifest.extract.max_extraction_tokens
        seen = self._image_tokens() + told
        least = (seen + think,) if manifest.reasoner is None else (seen, told + think)
        floors = tuple(needed + _TEXT_POSITIONS for needed in least)
        while True:
            yield lengths
            shorter = tuple(
                max(length - _CONTEXT_STEP, min(length, floor))
                for length, floor in zip(lengths, floors, strict=True)
            )
            if shorter == lengths:
                return
            lengths = shorter

    def _image_tokens(self) -> int:
        """Return the image tokens of a picture that is shown as one tile."""
        vision = self._bundle.manifest.vision
        size = (vision.processing.width, vision.processing.height)
        return plan_image(vision, size, max_tiles=1).image_tokens

    def _planned(
        self, models: Sequence[ModelParts], way: _Way, lengths: tuple[int, ...], *, converts: bool
    ) -> _Candidate:
        limit, contexts = self._limit_bytes, self._settings.contexts
        parts = self._parts(models, way, lengths)
        stays = sum(size for name, size in parts.items() if name not in _IN_TURNS)
        are_mapped = way.maps_weights or all(model.engine == "prebuilt" for model in models)
        takes_turns = not way.keeps_tower and are_mapped
        answers = stays + parts["weights"] + (parts["tower"] if way.keeps_tower else 0)
        looks = stays + parts["tower"] + (0 if takes_turns else parts["weights"])
        # One picture's image tokens are remembered in any case: of it the next question often is.
        row_bytes = self._bundle.manifest.vision.embedding_width * _FLOAT_BYTES
        kept = min(self._image_tokens() * row_bytes, self._settings.image_cache_bytes)
        peak = max(answers, looks) + kept
        pixel_bytes = contexts * PICTURE_PIXEL_BYTES
        needed = max(peak, answers + kept + pixel_bytes * self._least_pixels)

        left = max(limit - needed, 0)
        image_cache = min(self._settings.image_cache_bytes, kept + left // _SHARE_OF_IMAGE_TOKENS)
        room = max(limit - answers - image_cache, 0)
        pixels = min(self._settings.max_pixels, room // pixel_bytes)
        rest = limit - image_cache - max(looks, answers + pixel_bytes * pixels)
        plan = MemoryPlan(
            limit_bytes=limit,
            parts=parts,
            peak_bytes=peak,
            keeps_tower=way.keeps_tower,
            maps_weights=way.maps_weights,
            batch_positions=way.batch_positions,
            context_lengths=lengths,
            max_pixels=pixels,
            image_cache_bytes=image_cache,
            image_kv_bytes=min(self._options.image_kv_bytes, max(rest, 0)),
            converts_weights=converts,
        )
        return _Candidate(needed, plan)

    def _parts(
        self, models: Sequence[ModelParts], way: _Way, lengths: tuple[int, ...]
    ) -> dict[str, int]:
        contexts, kv_type = self._settings.contexts, self._settings.kv_type
        manifest = with_contexts(self._bundle.manifest, lengths)
        caches = [
            (models[0] if spec is manifest.perceiver else models[-1], positions)
            for spec, positions in kv_caches(manifest)
        ]
        rows = way.batch_positions or _MANY_ROWS
        kv_bytes = sum(model.shape.cache_bytes(length, kv_type) for model, length in caches)
        batch_bytes = sum(model.batch_bytes(rows, length) for model, length in caches)
        parts = {
            "process": self._held + LIBRARY_BYTES,
            "tokenizers": sum(model.tokenizer_bytes for model in models),
            "KV caches": contexts * kv_bytes,
            "batches": contexts * batch_bytes,
            "weights": sum(model.weights_bytes for model in models),
            "tower": tower_bytes(manifest.vision),
        }
        if self._options.cache_dir is not None:
            copied = models[0].shape.copy_bytes(self._image_tokens(), kv_type)
            parts["copies for cache_dir"] = copied
        return parts

    def _check(self, tried: Sequence[_Candidate]) -> None:
        """Refuse if nothing fits of what was tried.

        Raises:
            MemoryBudgetError: of the smallest one.
        """
        least = min(tried, key=lambda candidate: candidate.needed_bytes)
        if least.needed_bytes <= self._limit_bytes:
            return
        parts, settings = least.plan.parts, self._settings
        helps = []
        if settings.kv_type != "q8_0":
            helps.append("kv_type='q8_0', which halves the KV caches and may cost quality")
        if settings.contexts > 1:
            helps.append("fewer contexts")
        raise MemoryBudgetError(least.needed_bytes, self._limit_bytes, parts=parts, helps=helps)
