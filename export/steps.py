"""Shared by all tools: progress, reports, atomic output, the check for optional packages."""

import errno
import gc
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edge_et.errors import MissingExtraError
from edge_et.export.errors import DiskSpaceError, OutputError
from edge_et.llm import trim_heap
from edge_et.store import atomic_write

_FULL_BYTES = 2**16  # where a write fails that leaves less, the disk is full

Progress = Callable[[str, int, int], None]
"""Called with what is going on, how much of it is done, and how much there is."""


def no_progress(what: str, done: int, total: int) -> None:
    """Take progress and tell nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What one step wrote and how far it is from its reference.

    Attributes:
        name: the step, for people and for the manifest's checks.
        path: the file that was written.
        size_bytes: its size.
        measure: what `error` means, unit included; empty where nothing was compared.
        error: the difference from the reference; None where nothing was compared.
        limit: the largest error that is accepted; None where the error is only told.
        seconds: wall time of the step, comparison included.
        details: further figures by name, each with its unit in the name.
    """

    name: str
    path: Path
    size_bytes: int
    measure: str = ""
    error: float | None = None
    limit: float | None = None
    seconds: float
    details: dict[str, float] = field(default_factory=dict)


@contextmanager
def needing_extra(extra: str) -> Iterator[None]:
    """Turn the failed import of an optional package into an error that says what to install.

    Args:
        extra: the extra of edge-et that brings what is imported inside.

    Raises:
        MissingExtraError: a package that is not edge_et itself cannot be found. Where blocks stand
            inside each other, the extra of the outermost is named.
    """
    try:
        yield
    except MissingExtraError as err:
        raise MissingExtraError(err.module, extra) from err
    except ModuleNotFoundError as err:
        if err.name is None or err.name.partition(".")[0] == "edge_et":
            raise
        raise MissingExtraError(err.name, extra) from err


@contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """Do what `edge_et.store.files.atomic_write` does, with an error of the tools.

    Args:
        path: where the finished file shall be; its folder is made if need be.

    Yields:
        The path to write to.

    Raises:
        DiskSpaceError: the disk is full.
        OutputError: the operating system refuses for another reason.
    """
    try:
        with atomic_write(path) as temporary:
            try:
                yield temporary
            except DiskSpaceError as err:  # of the temporary folder, which nobody knows
                raise DiskSpaceError(path.parent, err.needed_bytes, err.free_bytes) from err
            except Exception as err:
                _tell_full_disk(temporary.parent, path.parent, err)
                raise
    except OSError as err:
        raise OutputError(path, err.strerror or str(err)) from err


def require_disk(needs: Iterable[tuple[Path, int]]) -> None:
    """Check that file systems have the room that is needed on each of them.

    Args:
        needs: places, which need not exist yet, and the bytes to be written there.

    Raises:
        DiskSpaceError: a file system has less; the message holds both numbers.
    """
    rooms: dict[int, tuple[Path, int]] = {}
    for path, size_bytes in needs:
        existing = path.absolute()
        while not existing.exists():
            existing = existing.parent
        device = existing.stat().st_dev
        first, sum_bytes = rooms.get(device, (existing, 0))
        rooms[device] = first, sum_bytes + size_bytes
    for path, needed in rooms.values():
        if (free := shutil.disk_usage(path).free) < needed:
            raise DiskSpaceError(path, needed, free)


def _tell_full_disk(written: Path, folder: Path, error: Exception) -> None:
    """Raise an error of ours where a full disk may be why another one was raised.

    Libraries tell a full disk in words of their own, or in none.
    """
    free = shutil.disk_usage(written).free
    if free < _FULL_BYTES or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
        had = free + sum(path.stat().st_size for path in written.rglob("*") if path.is_file())
        raise DiskSpaceError(folder, had, had, or_more=True) from error


@contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """Give a folder beside `out` for what is made on the way; it vanishes with the block.

    What a killed run has left there is removed by the next one for the same `out`.

    Args:
        out: what shall be made in the end; its folder is made if need be.

    Yields:
        An empty folder but for a lock, on the file system of `out`.

    Raises:
        OutputError: the operating system refuses, or another process is making the same.
    """
    from filelock import FileLock, Timeout

    folder = out.parent / f".{out.name}.building"
    lock = FileLock(folder / "lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock":
                path.unlink()
    except Timeout as err:
        raise OutputError(out, "another process is making it") from err
    except OSError as err:
        raise OutputError(out, err.strerror or str(err)) from err
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def put_in_place(made: Path, out: Path) -> None:
    """Rename what was made to its place; what was there before goes to the work folder.

    Args:
        made: a file or folder on the file system of `out`.
        out: its place.

    Raises:
        OutputError: the operating system refuses.
    """
    try:
        if out.exists():
            out.rename(made.with_name("replaced"))
        made.rename(out)
    except OSError as err:
        raise OutputError(out, err.strerror or str(err)) from err


def release_memory() -> None:
    """Give memory that is no longer used back to the system, before the next model comes on top."""
    gc.collect()
    trim_heap()


class Stopwatch:
    """Wall time since it was made."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds since the stopwatch was made."""
        return time.perf_counter() - self._started
