"""Ask the machine about itself: processor, memory, energy, peak memory."""

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edge_et.benchmarks.document import Machine
from edge_et.cpu_flags import read_flags
from edge_et.export.steps import needing_extra

with needing_extra("bench"):
    import psutil

_PACKAGES = (
    "edge-et",
    "llama-cpp-python",
    "ik-llama-cpp-python",
    "onnxruntime",
    "numpy",
    "pillow",
    "tokenizers",
    "msgspec",
    "torch",
    "transformers",
    "openvino",
    "openvino-genai",
    "openvino-tokenizers",
)

_INSTRUCTION_SETS = {
    "amx_int8": "AMX",
    "avx512_vnni": "AVX-512 with VNNI",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX2 with VNNI",
    "avx2": "AVX2",
    "i8mm": "i8mm",
    "asimddp": "dotprod",
    "asimd": "NEON",
}
"""What decides how fast matrices are multiplied, the most first, by Linux's names of them."""

_POWERCAP = Path("/sys/class/powercap")
_PROCESSES = Path("/proc")


def describe_machine() -> Machine:
    """Return what is known about this machine."""
    return Machine(
        cpu=", ".join(filter(None, (_cpu_name(), _instruction_set(read_flags() or frozenset())))),
        cores=psutil.cpu_count(logical=False),
        logical_cpus=psutil.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        load_average=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    )


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that take part and are installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Return the commit of edge-et's checkout, '+' behind it if changed; None: no checkout."""
    folder = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def peak_memory_bytes(process: int | None = None) -> int:
    """Return the most resident memory that a process had so far.

    Args:
        process: its number; None: this one. Of another, systems other than Linux and Windows tell
            what it has now.
    """
    # Linux hands ru_maxrss of getrusage from a parent on to the program that it starts, so that a
    # small child of a large parent would seem large; VmHWM belongs to the program alone.
    status = _PROCESSES / str(process or "self") / "status"
    if status.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    memory = psutil.Process(process).memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return int(memory.peak_wset)
    if process is not None:
        return int(memory.rss)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts bytes


class EnergyMeter:
    """Intel's and AMD's running average power limit (RAPL): energy of the CPU packages."""

    def __init__(self, powercap: Path = _POWERCAP) -> None:
        """Begin to count.

        Args:
            powercap: folder of the zones; those of whole packages are named ``intel-rapl:0``, ...
        """
        self._zones = sorted(
            zone for zone in powercap.glob("intel-rapl:*") if zone.name.count(":") == 1
        )
        self._start = self._read()

    def joules(self) -> float | None:
        """Return the energy since the meter was made, joules; None where it cannot be read."""
        now = self._read()
        if self._start is None or now is None:
            return None
        microjoules = 0
        for zone, before, after in zip(self._zones, self._start, now, strict=True):
            microjoules += after - before
            if after < before:  # the counter began again
                microjoules += int((zone / "max_energy_range_uj").read_text())
        return microjoules / 1e6

    def _read(self) -> list[int] | None:
        try:
            return [int((zone / "energy_uj").read_text()) for zone in self._zones] or None
        except (OSError, ValueError):  # most often for root alone
            return None


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    found = re.search(r"^(?:model name|Model)\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def _instruction_set(flags: frozenset[str]) -> str | None:
    """Name what a rented machine's model name leaves open: one name stands for several chips."""
    return next((told for flag, told in _INSTRUCTION_SETS.items() if flag in flags), None)
