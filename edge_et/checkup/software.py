"""Whether the packages that are installed are those that edge-et works with, and what they do.

In: what is installed. Out: findings.
"""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Final

from edge_et.checkup.finding import Figure, Finding
from edge_et.checkup.machine import Machine
from edge_et.cpu_flags import read_flags
from edge_et.native_libraries import TELEMETRY
from edge_et.pipeline import device_name

_SHOWN: Final = (
    "edge-et-mini",
    "llama-cpp-python",
    "ik-llama-cpp-python",
    "onnxruntime",
    "numpy",
    "pillow",
    "tokenizers",
    "gguf",
)

_KNOWN: Final = {
    "pillow": (
        "12.2",
        "from 12.2 on, and more often from 13.0 on, pictures are made smaller by another order of "
        "passes than in 12.1: pixels of photographs differ by 1 to 3 grey levels from those of "
        "earlier versions (docs/bundle.md)",
    ),
}
"""What packages do differently from a version on, as findings/ shows; nothing to be done about."""


def check_versions() -> Finding:
    """Compare the packages with what edge-et's own description asks for."""
    found = {name: number for name in _SHOWN if (number := _version(name)) is not None}
    own, python, system = _version("edge-et"), platform.python_version(), platform.platform()
    packages = ", ".join(f"{name} {number}" for name, number in found.items())
    told = f"edge-et {own or 'from no package'}, Python {python}, {system}; {packages}"
    figures: dict[str, Figure] = {
        "edge_et": own,
        "python": python,
        "system": system,
        "packages": found,
    }
    wrong = unfit_packages()
    if wrong:
        faults = "; ".join(f"{name} {_version(name)} is not {w}" for name, w in wrong.items())
        return Finding(
            check="versions",
            status="error",
            summary=f"{told}; {faults}",
            advice=tuple(f"pip install '{name}{wanted}'" for name, wanted in wrong.items()),
            figures=figures,
        )
    if os.environ.get(TELEMETRY) == "0":
        return Finding(
            check="versions",
            status="warning",
            summary=f"{told}; {TELEMETRY}=0 lets onnxruntime 1.29 and later report its use to its "
            "maker",
            advice=(f"unset {TELEMETRY}",),
            figures=figures,
        )
    return Finding(check="versions", status="ok", summary=told, figures=figures)


def known_of_versions() -> list[Finding]:
    """Tell what the packages that are installed do differently from earlier ones."""
    return [
        Finding(
            check=f"package.{name}",
            status="ok",
            summary=f"{number}: {what}",
            figures={"version": number, "since": first},
        )
        for name, (first, what) in _KNOWN.items()
        if (number := _version(name)) is not None and _numbers(number) >= _numbers(first)
    ]


def check_processor(machine: Machine) -> Finding:
    """Tell the processor.

    Args:
        machine: where it tells of itself.
    """
    flags = read_flags(machine.cpuinfo)
    return Finding(
        check="processor",
        status="ok",
        summary=device_name(),
        figures={
            "machine": machine.architecture,
            "device": device_name(),
            "flags": None if flags is None else sorted(flags),
        },
    )


def unfit_packages() -> dict[str, str]:
    """Return the installed packages that edge-et asks for in another version, with that version.

    Those of extras count where they are installed.
    """
    try:
        wanted = requires("edge-et") or []
    except PackageNotFoundError:  # as in a frozen program
        return {}
    unfit = {}
    for line in wanted:
        requirement = line.partition(";")[0].strip()
        parts = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*(.*)", requirement)
        if parts is None or (found := _version(parts[1])) is None:
            continue
        if not all(_holds(found, bound) for bound in parts[2].split(",") if bound):
            unfit[parts[1]] = parts[2]
    return unfit


def _holds(found: str, bound: str) -> bool:
    """Say whether a version lies within a bound; one of a kind that is not known here does."""
    parts = re.fullmatch(r"\s*(>=|<|==)\s*([0-9.]+)\s*", bound)
    if parts is None:
        return True
    mine, other = _numbers(found), _numbers(parts[2])
    length = max(len(mine), len(other))
    mine, other = (numbers + (0,) * (length - len(numbers)) for numbers in (mine, other))
    return {">=": mine >= other, "<": mine < other, "==": mine == other}[parts[1]]


def _numbers(text: str) -> tuple[int, ...]:
    release = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, release[0].split("."))) if release else ()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
