"""The memory of a process."""

import gc
from pathlib import Path


def resident_bytes(process: int | str = "self") -> int:
    """Return the memory of a process; of this one, what nothing refers to any more left out."""
    gc.collect()
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024
