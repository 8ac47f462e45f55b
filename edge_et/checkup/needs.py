"""What a bundle needs of a machine: estimates, in bytes.

In: a bundle. Out: numbers; no model is opened.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_et.bundle import Bundle
from edge_et.options import KvType
from edge_et.pipeline import bytes_to_prepare, kv_cache_bytes, open_prepared_weights

_OTHER_BYTES: Final = 200_000_000
"""Of Python, ONNX Runtime with a tower's activations, tokenizers and the engines' buffers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryNeed:
    """What a load takes.

    Attributes:
        weights_bytes: of all models.
        kv_cache_bytes: of all KV caches.
        other_bytes: of all else.
    """

    weights_bytes: int
    kv_cache_bytes: int
    other_bytes: int = _OTHER_BYTES

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights_bytes + self.kv_cache_bytes + self.other_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskNeed:
    """What is still to be made of a bundle's weights, and where.

    Attributes:
        folder: where; None: there is no place.
        is_writable: whether it can be written.
        kept_bytes: what is there already, of all bundles.
        needed_bytes: what is lacking of this one.
    """

    folder: Path | None
    is_writable: bool
    kept_bytes: int
    needed_bytes: int


def memory_need(bundle: Bundle, kv_type: KvType) -> MemoryNeed:
    """Estimate the memory of a load: the files, the KV caches, and a constant.

    Args:
        bundle: the bundle, with its profile's weights.
        kv_type: number type of the KV caches.

    Raises:
        ModelFileError: a GGUF does not tell its sizes.
        UnreadableFileError: it cannot be read.
    """
    sizes = {file.path: file.ref.size_bytes for file in bundle.files}
    return MemoryNeed(
        weights_bytes=sum(sizes.values()), kv_cache_bytes=kv_cache_bytes(bundle, kv_type)
    )


def disk_need(bundle: Bundle) -> DiskNeed:
    """Tell what loads of a bundle will still write into the user's caches.

    Args:
        bundle: as `load_bundle` gave it.

    Raises:
        ModelFileError: a model cannot be used.
    """
    prepared = open_prepared_weights()
    return DiskNeed(
        folder=prepared.folder,
        is_writable=prepared.keeps,
        kept_bytes=prepared.size_bytes,
        needed_bytes=bytes_to_prepare(bundle),
    )
