"""How a bundle is opened within a memory limit: what was chosen, and what each part takes.

In: what `edge_et.pipeline.memory_planner` found. Out: settings, and a bundle, that go by it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec

from edge_et.bundle import Bundle, Manifest
from edge_et.pipeline.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """What an opened bundle takes, and what was chosen so that it fits: `ExtractThink.memory_plan`.

    Attributes:
        limit_bytes: what was granted.
        parts: bytes by name: the process with its libraries, tokenizers, KV caches, batches, copies
            of KV caches for `cache_dir`, weights, the tower while it runs.
        peak_bytes: the most that is resident at once while questions about small pictures are
            answered. Less than all parts where the tower and the weights take turns.
        keeps_tower: whether the tower stays open, else it is opened for each picture that is new,
            and mapped weights leave memory meanwhile.
        maps_weights: whether weights stay in their file though the engine would read them.
        batch_positions: most rows of a batch; None: as many as are fastest.
        context_lengths: positions of the perceiver's context, and of the reasoner's.
        max_pixels: most pixels of a picture, for which there is room beside all that.
        image_cache_bytes: most bytes of image tokens that are remembered, likewise.
        image_kv_bytes: most bytes of what KV caches held of pictures, likewise.
        converts_weights: whether weights are used that were made of the bundle's.
    """

    limit_bytes: int
    parts: Mapping[str, int]
    peak_bytes: int
    keeps_tower: bool
    maps_weights: bool
    batch_positions: int | None
    context_lengths: tuple[int, ...]
    max_pixels: int
    image_cache_bytes: int
    image_kv_bytes: int
    converts_weights: bool

    def settings(self, settings: Settings) -> Settings:
        """Return settings that go by the plan."""
        return replace(
            settings,
            keeps_tower=self.keeps_tower,
            maps_weights=self.maps_weights,
            batch_positions=self.batch_positions,
            max_pixels=self.max_pixels,
            image_cache_bytes=self.image_cache_bytes,
        )

    def bundle(self, bundle: Bundle) -> Bundle:
        """Return a bundle with the plan's context lengths."""
        return replace(bundle, manifest=with_contexts(bundle.manifest, self.context_lengths))


def with_contexts(manifest: Manifest, lengths: tuple[int, ...]) -> Manifest:
    """Return a manifest with other context lengths.

    Args:
        manifest: a bundle's.
        lengths: positions of the perceiver's context, and of the reasoner's if there is one.
    """
    for role, length in zip(("perceiver", "reasoner"), lengths, strict=False):
        spec = msgspec.structs.replace(getattr(manifest, role), context_length=length)
        manifest = msgspec.structs.replace(manifest, **{role: spec})
    return manifest
