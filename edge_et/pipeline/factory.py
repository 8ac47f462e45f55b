"""From a bundle to a pipeline: opens the models and checks that they are what the manifest says.

Settings are given and checked: see `edge_et.pipeline.api` for what a user says.
"""

import functools
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Protocol

from edge_et.bundle import Bundle, LanguageModelSpec, Manifest, ThinkSpec
from edge_et.errors import ModelFileError
from edge_et.generation import ChatModel, PromptLookup, Throughput
from edge_et.image import DeferredTower, Tower, VisionTower
from edge_et.llm import (
    ImagePromptCache,
    KVCache,
    KVCacheSettings,
    LanguageModel,
    LlamaKVCache,
    Tokenizer,
    installed_engines,
    read_shape,
    trim_heap,
)
from edge_et.options import EngineName, KvType
from edge_et.pipeline.engine_choice import choose
from edge_et.pipeline.extract_think import ExtractThink
from edge_et.pipeline.memory_plan import MemoryPlan
from edge_et.pipeline.models import Models
from edge_et.pipeline.preparation import Preparation
from edge_et.pipeline.prepared_weights import open_prepared_weights
from edge_et.pipeline.settings import Settings
from edge_et.store import PreparedFile, Snapshots

_HINT_POSITIONS = 1024
"""Most positions of the cache that hints are asked for in: a question, its frame and the hint."""


class Model(Protocol):
    """What a pipeline needs of an opened language model; `edge_et.llm.LanguageModel` is one."""

    def new_kv_cache(self, settings: KVCacheSettings) -> KVCache:
        """Make a KV cache over it."""

    def rest(self) -> None:
        """Give back the memory of mapped weights until they are needed again."""

    def close(self) -> None:
        """Free it and its KV caches."""


OpenModel = Callable[[Bundle, LanguageModelSpec, Tokenizer], Model]
"""Opens a language model of a bundle, given its tokenizer."""


class ChosenModel:
    """A language model over the weights that were chosen for it, which stay until it is closed.

    Attributes:
        model: the opened model.
    """

    def __init__(self, model: LanguageModel, weights: PreparedFile | None) -> None:
        """Put them together.

        Args:
            model: the opened model.
            weights: what it was opened from; None: the bundle's own files.
        """
        self.model, self._weights = model, weights

    def new_kv_cache(self, settings: KVCacheSettings) -> LlamaKVCache:
        """Make a KV cache over it; see `edge_et.llm.LanguageModel.new_kv_cache`."""
        return self.model.new_kv_cache(settings)

    def rest(self) -> None:
        """Give back the memory of mapped weights; see `edge_et.llm.LanguageModel.rest`."""
        self.model.rest()

    def close(self) -> None:
        """Free it and its KV caches; may be called again."""
        self.model.close()
        if self._weights is not None:
            self._weights.close()


def open_model(
    bundle: Bundle,
    spec: LanguageModelSpec,
    tokenizer: Tokenizer | None,
    snapshots: Snapshots | None = None,
    image_kv_bytes: int = 0,
    *,
    engine: EngineName | None = None,
    kv_type: KvType = "f16",
    flash_attention: bool = False,
    convert_weights: bool = True,
    makes: bool = True,
    mapped: bool = False,
    preparation: Preparation | None = None,
) -> ChosenModel:
    """Open a language model of a bundle with the engine and in the form that suit it here.

    Args:
        bundle: a bundle.
        spec: one of its models.
        tokenizer: the model's; None: no ids are shown to anyone.
        snapshots: keep on disk what its KV caches hold of images; None: nobody does.
        image_kv_bytes: most bytes of copies in memory of what they held of images.
        engine: the one that the caller wants; None: see `edge_et.pipeline.engine_choice`.
        kv_type: number type of its KV caches.
        flash_attention: whether attention never makes its whole matrix in them.
        convert_weights: whether other weights may be made of the bundle's, and used.
        makes: whether that and comparing engines may take place now; it needs memory and seconds.
        mapped: whether the weights stay in their file.
        preparation: does what the next program is faster for; None: nobody does.

    Raises:
        ModelFileError: it cannot be used.
        EngineError: no engine can be used for it.
    """
    choice = choose(
        bundle,
        spec,
        engines=installed_engines(),
        asked=engine,
        kv_type=kv_type,
        flash_attention=flash_attention,
        converts=convert_weights,
        makes=makes,
        prepared=open_prepared_weights(),
        tokenizer=tokenizer,
    )
    if preparation is not None and choice.later is not None:
        preparation.add(choice.later)
    kept = snapshots if choice.engine.tells_version else None
    try:
        model = LanguageModel(
            choice.weights,
            choice.spec,
            adapter=choice.adapter,
            engine=choice.engine,
            token_count=spec.vocabulary_size if tokenizer is None else tokenizer.size,
            image_prompt_cache=ImagePromptCache(kept, choice.spec, image_kv_bytes),
            mapped=mapped,
        )
    except BaseException:
        if choice.file is not None:
            choice.file.close()
        raise
    return ChosenModel(model, choice.file)


def open_pipeline(
    bundle: Bundle,
    settings: Settings,
    *,
    snapshots: Snapshots | None = None,
    open_model: OpenModel = open_model,
    preparation: Preparation | None = None,
    memory_plan: MemoryPlan | None = None,
) -> ExtractThink:
    """Open the parts of a bundle and put them together.

    `load` does it with what the caller and the profile say; tools put other models in.

    Args:
        bundle: from `edge_et.load_bundle`.
        settings: how to open them.
        snapshots: keep image tokens; the tower is opened when it first has to run. Given to the
            models by whoever opens them. None: nobody keeps anything.
        open_model: opens its language models.
        preparation: work that begins behind the first answer, and ends with the pipeline. None:
            there is none.
        memory_plan: how the settings came about, for whoever asks; None: there was no limit.

    Returns:
        The pipeline: a context manager, to be closed.

    Raises:
        ModelFileError: a model cannot be used.
        DecodeError: there is not enough memory for a KV cache.
    """
    manifest = bundle.manifest
    with ExitStack() as resources:
        graph = bundle.path(manifest.vision.graph)
        opened_tower = functools.partial(VisionTower, graph, manifest.vision, settings.threads)
        models: list[Model] = []

        def make_room() -> None:
            for model in models:
                model.rest()
            trim_heap()

        if snapshots is None and settings.keeps_tower:
            tower: Tower = opened_tower()
        else:
            tower = DeferredTower(opened_tower, None if settings.keeps_tower else make_room)
        resources.enter_context(closing(tower))
        if preparation is not None:
            resources.enter_context(closing(preparation))

        def opened(spec: LanguageModelSpec) -> _Opened:
            one = _Opened(bundle, spec, settings, open_model, resources)
            models.append(one.model)
            return one

        perceiver = thinking_model = opened(manifest.perceiver)
        if manifest.reasoner is not None:
            thinking_model = opened(manifest.reasoner)
        thinking_model.check_thoughts(manifest.think)

        def new_models() -> Models:
            for model in (perceiver, thinking_model):
                model.begin_context()
            reads = perceiver.new_chat_model()
            reasoner = thinking_model.new_chat_model() if _has_own_cache(manifest) else None
            asks = _asks_for_hints(manifest)
            hint_model = thinking_model.new_chat_model(_HINT_POSITIONS) if asks else None
            return Models(perceiver=reads, reasoner=reasoner, hint_model=hint_model)

        return ExtractThink(
            manifest,
            tower=tower,
            contexts=[new_models() for _ in range(settings.contexts)],
            bundle=bundle,
            resources=resources.pop_all(),
            max_pixels=settings.max_pixels,
            image_cache_bytes=settings.image_cache_bytes,
            image_limits=settings.image_limits,
            max_waiting=settings.max_waiting,
            snapshots=snapshots,
            memory_plan=memory_plan,
            after_answer=None if preparation is None else preparation.begin,
        )


def kv_cache_bytes(bundle: Bundle, kv_type: KvType, contexts: int = 1) -> int:
    """Return what the KV caches of a bundle take together; no weights are loaded.

    Args:
        bundle: a bundle.
        kv_type: number type of the caches.
        contexts: calls that may be under way at once.
    """
    return contexts * sum(
        read_shape(bundle.path(spec.weights)).cache_bytes(positions, kv_type)
        for spec, positions in kv_caches(bundle.manifest)
    )


def kv_caches(manifest: Manifest) -> list[tuple[LanguageModelSpec, int]]:
    """Return the KV caches of one context: of which model, and how many positions."""
    thinking_model = manifest.reasoner or manifest.perceiver
    caches = [(manifest.perceiver, manifest.perceiver.context_length)]
    if _has_own_cache(manifest):
        caches.append((thinking_model, thinking_model.context_length))
    if _asks_for_hints(manifest):
        caches.append((thinking_model, min(thinking_model.context_length, _HINT_POSITIONS)))
    return caches


def _has_own_cache(manifest: Manifest) -> bool:
    """Return whether stage 2 is a conversation of its own."""
    return manifest.reasoner is not None or manifest.think.sees == "extraction"


def _asks_for_hints(manifest: Manifest) -> bool:
    return manifest.extract.hint is not None and manifest.extract.hint_places > 0


class _Opened:
    """An opened language model, with chat models over it."""

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
        self._throughput = Throughput()
        self._prompt_lookup: PromptLookup | None = None
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
        self.model = open_model(bundle, spec, tokenizer)
        resources.enter_context(closing(self.model))

    def begin_context(self) -> None:
        """Let the chat models to come learn what may be written apart from those before."""
        self._prompt_lookup = None

    def new_chat_model(self, most_positions: int | None = None) -> ChatModel:
        """Return the model with a KV cache of its own over these weights."""
        length = self._spec.context_length
        kv_cache = self.model.new_kv_cache(
            self._settings.kv_cache(min(length, most_positions or length))
        )
        if self._prompt_lookup is None and kv_cache.max_draft_tokens:
            self._prompt_lookup = PromptLookup(kv_cache.max_draft_tokens)
        return ChatModel(
            tokenizer=self._tokenizer,
            kv_cache=kv_cache,
            chat=self._spec.chat,
            stop_ids=self._stop_ids,
            throughput=self._throughput,
            prompt_lookup=self._prompt_lookup,
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
