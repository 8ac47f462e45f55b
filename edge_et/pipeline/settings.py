"""How a bundle is opened on this machine: what the caller said, else the profile, else defaults.

In: checked options, and the profile that `edge-et autotune` left, if any. Out: `Settings`, in which
nothing is open any more.
"""

from dataclasses import dataclass, field
from typing import Self

from edge_et.generation import MAX_DRAFT_TOKENS
from edge_et.image import DEFAULT_IMAGE_LIMITS, ImageLimits
from edge_et.llm import KVCacheSettings
from edge_et.options import (
    DEFAULT_IMAGE_CACHE_BYTES,
    DEFAULT_MAX_PIXELS,
    DEFAULT_MAX_WAITING,
    EngineName,
    KvType,
    LoadOptions,
)
from edge_et.pipeline.device_profile import DeviceProfile
from edge_et.threads import available_cpus, choose_threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How models are opened, and what is remembered.

    Attributes:
        engine: evaluates the language models; None: `edge_et.pipeline.engine_choice` decides.
        threads: of tower and language models.
        kv_type: number type of the KV caches.
        flash_attention: whether attention never makes its whole matrix.
        prompt_lookup: whether tokens are drafted; see `edge_et.generation.PromptLookup`. None:
            where they round as single ones do.
        max_pixels: most pixels of a picture.
        image_cache_bytes: most bytes of image tokens that are remembered.
        image_limits: for the pictures of one question.
        contexts: calls that may be under way at once, each with KV caches of its own.
        max_waiting: calls that may wait to begin.
        keeps_tower: whether the tower stays open between pictures.
        maps_weights: whether weights stay in their file, which an engine may decide otherwise.
        batch_positions: most rows of a batch; None: as many as are fastest.
    """

    engine: EngineName | None = None
    threads: int = field(default_factory=available_cpus)
    kv_type: KvType = "f16"
    flash_attention: bool = False
    prompt_lookup: bool | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS
    image_cache_bytes: int = DEFAULT_IMAGE_CACHE_BYTES
    image_limits: ImageLimits = DEFAULT_IMAGE_LIMITS
    contexts: int = 1
    max_waiting: int = DEFAULT_MAX_WAITING
    keeps_tower: bool = True
    maps_weights: bool = False
    batch_positions: int | None = None

    @classmethod
    def of(cls, options: LoadOptions, profile: DeviceProfile | None) -> Self:
        """Decide what the caller left open.

        Args:
            options: what the caller said.
            profile: what was found fastest here; None: nothing was looked for.
        """
        return cls(
            engine=options.engine,
            threads=choose_threads(options.threads, profile.threads if profile else None),
            kv_type=options.kv_type or (profile.kv_type if profile else "f16"),
            flash_attention=profile is not None and profile.flash_attention,
            prompt_lookup=options.prompt_lookup,
            max_pixels=options.max_pixels,
            image_cache_bytes=options.image_cache_bytes,
            image_limits=ImageLimits(
                images=options.max_images, size_bytes=options.max_images_bytes
            ),
            contexts=options.contexts,
            max_waiting=options.max_waiting,
        )

    def kv_cache(self, context_length: int) -> KVCacheSettings:
        """Return how a KV cache is made.

        Args:
            context_length: positions that it can hold, at least 1.
        """
        drafted = MAX_DRAFT_TOKENS if self.prompt_lookup else 0
        return KVCacheSettings(
            context_length=context_length,
            threads=self.threads,
            kv_type=self.kv_type,
            flash_attention=self.flash_attention,
            max_draft_tokens=None if self.prompt_lookup is None else drafted,
            batch_positions=self.batch_positions,
        )
