"""What an engine was compiled for, held against what the CPU can do."""

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tiny.places import ROOT

from edge_et.checkup import Machine
from edge_et.checkup.builds import (
    EngineBuild,
    check_engine,
    check_onnxruntime,
    compiled_for,
    open_apart,
    reinstall_command,
)
from edge_et.llm import Engine, default_engine, installed_engines

SAMPLES = ROOT / "tests" / "data" / "cpuinfo"
OLD = "CPU : SSE3 = 1 | SSSE3 = 1 | LLAMAFILE = 1 |"
AVX2 = "CPU : AVX = 1 | AVX2 = 1 | F16C = 1 | FMA = 1 | BMI2 = 1 | OPENMP = 1 |"
AVX512 = f"{AVX2} AVX512 = 1 | AVX512_VNNI = 1 |"
LARGE = "avx avx2 f16c fma bmi2 avx512f avx512cd avx512bw avx512dq avx512vl avx512_vnni"


@pytest.fixture
def llama() -> Engine:
    """An engine that is compiled on the machine, whichever the tests run with."""
    return replace(default_engine(), name="llama", package="llama-cpp-python", version="0.3.36")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "cpuinfo").write_text(f"flags : {LARGE}\n")
    (tmp_path / "meminfo").write_text("MemAvailable: 1200000 kB\n")
    return Machine(
        cpuinfo=tmp_path / "cpuinfo",
        meminfo=tmp_path / "meminfo",
        groups=tmp_path / "none",
        own_groups=tmp_path / "none",
        architecture="x86_64",
    )


def test_what_it_was_compiled_for_is_read() -> None:
    assert compiled_for(AVX2) == ["AVX", "AVX2", "F16C", "FMA", "BMI2"]
    assert compiled_for("AVX = 1 | AVX512 = 0 | MATMUL_INT8 = 1 |") == ["AVX", "MATMUL_INT8"]
    assert compiled_for("") == []


def test_a_build_for_this_cpu_is_ok(llama: Engine, machine: Machine) -> None:
    found = check_engine(llama, EngineBuild(described=AVX512), machine)
    assert (found.check, found.status, found.advice) == ("engine.llama", "ok", ())


@pytest.mark.parametrize("described", [OLD, AVX2])
def test_a_build_that_leaves_out_what_the_cpu_has_is_slow(
    llama: Engine, machine: Machine, described: str
) -> None:
    found = check_engine(llama, EngineBuild(described=described), machine)
    assert found.status == "warning"
    assert "AVX512_VNNI" in str(found.figures["unused"])
    (advice,) = found.advice
    assert "--no-binary llama-cpp-python" in advice


def test_a_build_for_another_cpu_may_end_the_process(llama: Engine, machine: Machine) -> None:
    machine.cpuinfo.write_text("flags : avx avx2 f16c fma bmi2\n")
    assert check_engine(llama, EngineBuild(described=AVX2), machine).status == "ok"
    found = check_engine(llama, EngineBuild(described=AVX512), machine)
    assert found.status == "error"
    assert found.figures["lacking"] == ["AVX512", "AVX512_VNNI"]
    assert "SIGILL" in found.summary
    assert "--force-reinstall" in found.advice[0]


def test_a_board_has_other_names_for_it(llama: Engine, machine: Machine) -> None:
    board = replace(machine, cpuinfo=SAMPLES / "raspberry-pi-5.txt", architecture="aarch64")
    slow = "CPU : NEON = 1 | ARM_FMA = 1 |"
    fast = f"{slow} FP16_VA = 1 | DOTPROD = 1 |"
    assert check_engine(llama, EngineBuild(described=fast), board).status == "ok"
    found = check_engine(llama, EngineBuild(described=slow), board)
    assert (found.status, found.figures["unused"]) == ("warning", ["DOTPROD"])
    older = replace(board, cpuinfo=SAMPLES / "raspberry-pi-4.txt")
    found = check_engine(llama, EngineBuild(described=fast), older)
    assert (found.status, found.figures["lacking"]) == ("error", ["FP16_VA", "DOTPROD"])


def test_an_engine_that_the_cpu_cannot_run_is_not_opened(llama: Engine, machine: Machine) -> None:
    prebuilt = replace(llama, name="prebuilt", missing=("avx2",))
    found = check_engine(prebuilt, None, machine)
    assert found.status == "warning"
    assert "avx2" in found.summary


def test_an_engine_that_ends_its_process_is_an_error(llama: Engine, machine: Machine) -> None:
    fault = "opening it ends the process by SIGILL"
    found = check_engine(llama, EngineBuild(described=None, fault=fault), machine)
    assert found.status == "error"
    assert fault in found.summary


def test_the_engines_of_this_machine_open_in_a_process_of_their_own() -> None:
    for engine in installed_engines():
        if not engine.missing:
            assert open_apart(engine).described == engine.open().describe_build()


def test_a_process_that_dies_is_survived(
    llama: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fatal = tmp_path / "sitecustomize.py"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    fatal.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    fault = "opening it ends the process by SIGILL"
    assert open_apart(llama) == EngineBuild(described=None, fault=fault)
    fatal.write_text("import sys\nsys.modules['llama_cpp'] = sys.modules['ik_llama_cpp'] = None\n")
    found = open_apart(llama)
    assert found.described is None
    assert found.fault


def test_the_command_is_one_that_a_shell_understands(machine: Machine) -> None:
    cmake, jobs, python, *rest = shlex.split(reinstall_command("llama", machine))
    script = ROOT / "scripts" / "llama_cpp.cmake"
    assert cmake == f"CMAKE_ARGS=-DCMAKE_PROJECT_llama_cpp_INCLUDE={script}"
    name, _, number = jobs.partition("=")
    assert name == "CMAKE_BUILD_PARALLEL_LEVEL"
    assert int(number) in (1, 2)  # the memory is that of two
    assert python == sys.executable
    assert rest == [
        *("-m", "pip", "install", "--force-reinstall", "--no-deps", "--no-cache-dir"),
        *("--no-binary", "llama-cpp-python", "llama-cpp-python>=0.3.36,<0.4"),
    ]
    assert reinstall_command("prebuilt", machine).endswith("--no-deps ik-llama-cpp-python==0.1.5")


def test_versions_in_the_commands_are_those_of_the_project() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert '"llama-cpp-python>=0.3.36,<0.4"' in project
    assert '"ik-llama-cpp-python==0.1.5"' in project


def test_onnxruntime_says_which_kernels_it_takes(machine: Machine) -> None:
    assert check_onnxruntime(machine).figures["kernels"] == "AVX512_VNNI"
    machine.cpuinfo.write_text((SAMPLES / "celeron-j4105.txt").read_text())
    found = check_onnxruntime(machine)
    assert (found.status, found.figures["kernels"]) == ("warning", None)
