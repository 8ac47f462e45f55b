"""The memory of this process."""

import gc
from pathlib import Path


def resident_bytes() -> int:
    """Return the memory of this process, what nothing refers to any more left out."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024
