"""Programs that may take only so much memory."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

ROOT_V1 = Path("/sys/fs/cgroup/memory")
ROOT_V2 = Path("/sys/fs/cgroup")


class NoGroupError(Exception):
    """Control groups cannot be made here; the message says why."""


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[Path]:
    """Make a control group whose processes may take so much memory, without swap.

    Yields:
        Its folder.

    Raises:
        NoGroupError: nobody may make one here.
    """
    is_v1 = ROOT_V1.is_dir()
    group = (ROOT_V1 if is_v1 else ROOT_V2) / f"edge-et-{uuid4().hex[:8]}"
    try:
        group.mkdir()
    except OSError as err:
        raise NoGroupError(f"no control group can be made: {err}") from err
    if not (group / "cgroup.procs").exists():
        group.rmdir()
        raise NoGroupError(f"{group.parent} is no folder of control groups")
    try:
        limits = (
            ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
            if is_v1
            else ("memory.max", "memory.swap.max")
        )
        values = (limit_bytes, limit_bytes if is_v1 else 0)
        try:
            for name, value in zip(limits, values, strict=True):
                (group / name).write_text(str(value))
        except OSError as err:
            raise NoGroupError(f"memory cannot be limited: {err}") from err
        yield group
    finally:
        group.rmdir()


def run_alone(code: str, argument: str) -> subprocess.CompletedProcess[str]:
    """Run a program of Python that is given one argument."""
    return _run([sys.executable, "-c", code, argument])


def run_in_group(group: Path, code: str, argument: str) -> subprocess.CompletedProcess[str]:
    """Do so in a control group, which its shell enters first."""
    enter = f'echo $$ > "{group / "cgroup.procs"}" && exec "$@"'
    return _run(["sh", "-c", enter, "sh", sys.executable, "-c", code, argument])


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
