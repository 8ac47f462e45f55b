"""Whether each engine, and ONNX Runtime, was built for the CPU that it runs on.

In: the libraries that are installed, and what the CPU can do. Out: findings with the command that
installs anew. A library that was compiled for another CPU ends the process, so each engine is
opened in a process of its own first.
"""

import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge_et.available_memory import available_bytes
from edge_et.checkup.finding import Figure, Finding
from edge_et.checkup.machine import Machine
from edge_et.cpu_flags import read_flags
from edge_et.llm import Engine
from edge_et.threads import available_cpus

_OPEN_S = 60.0
_COMPILER_BYTES = 550_000_000  # of one compiler at its peak: docs/install.md
_CHECKOUT = Path(__file__).resolve().parents[2]

# What an engine says of itself, and what Linux calls the same. AVX512 stands for five sets at once.
_FLAGS: Final = {
    "AVX": ("avx",),
    "AVX2": ("avx2",),
    "AVX_VNNI": ("avx_vnni",),
    "F16C": ("f16c",),
    "FMA": ("fma",),
    "BMI2": ("bmi2",),
    "AVX512": ("avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl"),
    "AVX512_VBMI": ("avx512vbmi",),
    "AVX512_VNNI": ("avx512_vnni",),
    "AVX512_BF16": ("avx512_bf16",),
    "AMX_INT8": ("amx_int8",),
    "NEON": ("asimd",),
    "FP16_VA": ("asimdhp",),
    "DOTPROD": ("asimddp",),
    "MATMUL_INT8": ("i8mm",),
    "SVE": ("sve",),
}

# Of these the products of quantized weights are made; the others change nothing that was measured.
_FASTER: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "llama": {
        "x86_64": ("AVX2", "FMA", "AVX512", "AVX512_VNNI", "AVX_VNNI"),
        "aarch64": ("DOTPROD", "MATMUL_INT8"),
    },
    "prebuilt": {"x86_64": ("AVX512_VNNI",)},
}


# By engine: its package, the versions that are wanted of it, CMake's name of it, and the script
# that leaves out what nobody loads.
_SOURCES: Final = {
    "llama": ("llama-cpp-python", ">=0.3.36,<0.4", "llama_cpp", "llama_cpp.cmake"),
    "prebuilt": ("ik-llama-cpp-python", "==0.1.5", "ik_llama_cpp_python", "ik_llama_cpp.cmake"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineBuild:
    """What a process found that opened an engine.

    Attributes:
        described: what the library says of itself; None: it could not be opened.
        fault: why not; empty: it could.
    """

    described: str | None
    fault: str = ""


def open_apart(engine: Engine) -> EngineBuild:
    """Open an engine in a process of its own.

    Args:
        engine: which.
    """
    code = (
        "from edge_et.llm import default_engine; "
        f"print(default_engine({engine.name!r}).open().describe_build())"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_OPEN_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return EngineBuild(described=None, fault=f"it was not open after {_OPEN_S:.0f} s")
    if done.returncode == 0:
        return EngineBuild(described=done.stdout.strip())
    if done.returncode < 0:
        name = signal.Signals(-done.returncode).name
        return EngineBuild(described=None, fault=f"opening it ends the process by {name}")
    lines = done.stderr.strip().splitlines() or ["it cannot be opened"]
    return EngineBuild(described=None, fault=lines[-1])


def check_engine(engine: Engine, build: EngineBuild | None, machine: Machine) -> Finding:
    """Compare what an engine was compiled for with what the CPU can do.

    Args:
        engine: which.
        build: what `open_apart` found; None: the CPU lacks what it needs, and it was not opened.
        machine: where the CPU tells of itself.
    """
    check = f"engine.{engine.name}"
    figures: dict[str, Figure] = {"package": f"{engine.package} {engine.version}"}
    if build is None:
        return Finding(
            check=check,
            status="warning",
            summary=f"{engine.package} {engine.version} is not used: this CPU lacks "
            f"{', '.join(engine.missing)}",
            advice=("the engine llama is compiled for it: " + reinstall_command("llama", machine),),
            figures=figures | {"lacking": list(engine.missing)},
        )
    if build.described is None:
        return Finding(
            check=check,
            status="error",
            summary=f"{engine.package} {engine.version}: {build.fault}",
            advice=(f"install it anew: {reinstall_command(engine.name, machine)}",),
            figures=figures,
        )
    built = compiled_for(build.described)
    flags = read_flags(machine.cpuinfo)
    figures |= {"build": build.described}
    if flags is None:
        return Finding(check=check, status="ok", summary=build.described, figures=figures)
    lacking = [name for name in built if not set(_FLAGS[name]) <= flags]
    wanted = _FASTER.get(engine.name, {}).get(machine.architecture, ())
    unused = [name for name in wanted if set(_FLAGS[name]) <= flags and name not in built]
    figures |= {"lacking": lacking, "unused": unused}
    if lacking:
        return Finding(
            check=check,
            status="error",
            summary=f"it was compiled for a CPU with {', '.join(lacking)}, which this one lacks: "
            "it may end the process (SIGILL)",
            advice=(f"install it anew: {reinstall_command(engine.name, machine)}",),
            figures=figures,
        )
    if unused:
        return Finding(
            check=check,
            status="warning",
            summary=f"it was compiled without {', '.join(unused)}, which this CPU has: slower",
            advice=(f"compile it here: {compile_command(engine.name, machine)}",),
            figures=figures,
        )
    used = ", ".join(built) or "no instruction set beyond the base"
    return Finding(
        check=check,
        status="ok",
        summary=f"{engine.package} {engine.version}, compiled for {used}",
        figures=figures,
    )


def check_onnxruntime(machine: Machine) -> Finding:
    """Tell which of its kernels ONNX Runtime takes: its wheels hold several, chosen at run time.

    Args:
        machine: where the CPU tells of itself.
    """
    from importlib.metadata import version

    number = version("onnxruntime")
    flags = read_flags(machine.cpuinfo) or frozenset()
    names = ("AVX512_VNNI", "AVX_VNNI", "AVX512", "AVX2", "MATMUL_INT8", "DOTPROD")
    best = next((name for name in names if set(_FLAGS[name]) <= flags), None)
    figures = {"version": number, "kernels": best}
    told = f"onnxruntime {number}, which chooses its kernels by the CPU"
    if best is None and flags:
        return Finding(
            check="onnxruntime",
            status="warning",
            summary=f"{told}: this one has neither AVX2 nor dotprod, so pictures take long",
            figures=figures,
        )
    summary = told if best is None else f"{told}: the best that it has is {best}"
    return Finding(check="onnxruntime", status="ok", summary=summary, figures=figures)


def compiled_for(described: str) -> list[str]:
    """Return the instruction sets that a library says it was compiled for.

    Args:
        described: such as ``AVX2 = 1 | AVX512 = 0``.
    """
    parts = described.replace("CPU :", "").split("|")
    named = {name.strip(): value.strip() for name, _, value in (p.partition("=") for p in parts)}
    return [name for name in _FLAGS if named.get(name) == "1"]


def reinstall_command(name: str, machine: Machine) -> str:
    """Return the command that installs an engine as docs/install.md does.

    Args:
        name: of the engine.
        machine: where the memory is told, for the number of compilers.
    """
    if name == "llama":
        return compile_command(name, machine)
    package, versions, _, _ = _SOURCES[name]
    return _pip(package + versions)


def compile_command(name: str, machine: Machine) -> str:
    """Return the command that compiles an engine for this CPU.

    Args:
        name: of the engine.
        machine: where the memory is told, for the number of compilers.
    """
    package, versions, project, file = _SOURCES[name]
    script = _CHECKOUT / "scripts" / file
    if not script.is_file() and name == "prebuilt":  # its source distribution lacks a file
        return "in a clone of edge-et, as docs/install.md says"
    free = available_bytes(machine.meminfo, machine.groups, machine.own_groups) or 0
    jobs = max(1, min(available_cpus(), free // _COMPILER_BYTES))
    settings = [f"CMAKE_BUILD_PARALLEL_LEVEL={jobs}"]
    if script.is_file():
        include = shlex.quote(f"-DCMAKE_PROJECT_{project}_INCLUDE={script}")
        settings.insert(0, f"CMAKE_ARGS={include}")
    pip = _pip(package + versions, "--no-cache-dir", "--no-binary", package)
    return " ".join([*settings, pip])


def _pip(requirement: str, *options: str) -> str:
    command: Sequence[str] = (sys.executable, "-m", "pip", "install", "--force-reinstall")
    return shlex.join([*command, "--no-deps", *options, requirement])
