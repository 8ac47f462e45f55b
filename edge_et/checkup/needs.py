"""What is still to be made of the weights of a bundle, and where.

In: a bundle. Out: numbers; no model is opened.
"""

from dataclasses import dataclass
from pathlib import Path

from edge_et.bundle import Bundle
from edge_et.pipeline import bytes_to_prepare, open_prepared_weights


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
