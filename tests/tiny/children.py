"""What children do in tests: work that native code ends, or that lasts."""

import os
import time
from pathlib import Path


def die(*_: object, **__: object) -> None:
    os.abort()


def wait(told: Path) -> None:
    """Write this process's id to a file, and stay."""
    told.with_suffix(".partial").write_text(str(os.getpid()))
    told.with_suffix(".partial").rename(told)
    time.sleep(60)
