"""Bytes that outlive a process.

In: bytes under a key, or a path to write to. Out: the same bytes, or nothing; a file that is
written whole or not at all. What the bytes mean is not known here.
"""

from edge_et.store.files import atomic_write, partial_folder, user_cache
from edge_et.store.locks import FileLock
from edge_et.store.prepared_files import PreparedFile, PreparedFiles, unnamed_file
from edge_et.store.snapshots import Snapshots, SnapshotStore

__all__ = [
    "FileLock",
    "PreparedFile",
    "PreparedFiles",
    "SnapshotStore",
    "Snapshots",
    "atomic_write",
    "partial_folder",
    "unnamed_file",
    "user_cache",
]
