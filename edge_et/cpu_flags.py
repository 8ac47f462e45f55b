"""What the CPU can do, read before a library is opened that takes it for granted.

In: the name of an engine. Out: the instruction sets that its library needs and this CPU lacks. A
library that is opened in spite of it ends the process by SIGILL, which nobody can catch. Needs
nothing but the standard library, as `scripts/` asks before anything is installed.
"""

import platform
from pathlib import Path
from typing import Final

CPUINFO: Final = Path("/proc/cpuinfo")

_X86 = ("avx", "avx2", "f16c", "fma", "popcnt")
_ARM = ("asimddp", "asimdhp", "fphp")

NEEDS: Final = {"prebuilt": {"x86_64": _X86, "aarch64": _ARM}}
"""By engine and machine, in Linux's names: what is used without asking whether it is there.

Source: the instructions in the libraries of ik-llama-cpp-python 0.1.5's wheels (``objdump -d``).
`llama` is compiled for the CPU that it runs on.
"""

_LINES = ("flags", "Features")  # what x86 and ARM call the line


def missing_for(engine: str, machine: str | None = None, path: Path = CPUINFO) -> tuple[str, ...]:
    """Say which instruction sets an engine needs and this CPU does not have.

    Args:
        engine: `prebuilt` or `llama`.
        machine: as `platform.machine` says it; None: this one.
        path: what Linux says about the CPUs.

    Returns:
        Linux's names of them; empty: nothing is missing, or there is no telling, as outside Linux.
    """
    flags = read_flags(path)
    if flags is None:
        return ()
    needed = NEEDS.get(engine, {}).get(machine or platform.machine(), ())
    return tuple(name for name in needed if name not in flags)


def read_flags(path: Path = CPUINFO) -> frozenset[str] | None:
    """Read what all CPUs can do; cores of one chip may differ.

    Args:
        path: what Linux says about the CPUs.

    Returns:
        Linux's names; None: it does not say.
    """
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return None
    pairs = (line.partition(":") for line in lines)
    cpus = [frozenset(value.split()) for name, _, value in pairs if name.strip() in _LINES]
    return frozenset.intersection(*cpus) if cpus else None
