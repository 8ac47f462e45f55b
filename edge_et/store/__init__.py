"""Bytes that outlive a process.

In: bytes under a key, or a path to write to. Out: the same bytes, or nothing; a file that is
written whole or not at all. What the bytes mean is not known here.
"""

from edge_et.store.files import user_cache, written_whole
from edge_et.store.snapshots import Snapshots, SnapshotStore

__all__ = [
    "SnapshotStore",
    "Snapshots",
    "user_cache",
    "written_whole",
]
