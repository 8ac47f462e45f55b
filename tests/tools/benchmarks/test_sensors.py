"""What the machine tells about itself."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_et.benchmarks import sensors
from edge_et.benchmarks.sensors import EnergyMeter, describe_machine, peak_memory_bytes, versions


def test_energy_is_that_of_whole_packages(tmp_path: Path):
    for name, energy in (("intel-rapl:0", 900), ("intel-rapl:1", 10), ("intel-rapl:0:0", 5)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{energy}000000\n")
        (tmp_path / name / "max_energy_range_uj").write_text("1000000000\n")
    meter = EnergyMeter(tmp_path)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("2000000\n")  # began again at 1000 J
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("13000000\n")
    assert meter.joules() == pytest.approx(102 + 3)
    assert EnergyMeter(tmp_path / "none").joules() is None


def test_peak_memory_is_that_of_the_process_alone():
    ballast = np.ones(40_000_000)  # 320 MB, which a child must not inherit
    code = "from edge_et.benchmarks.sensors import peak_memory_bytes; print(peak_memory_bytes())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 5e6 < int(done.stdout) < ballast.nbytes < peak_memory_bytes()


def test_peak_memory_of_another_process_is_its_own():
    code = "ballast = bytearray(60_000_000); print('ready', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert 60e6 < peak_memory_bytes(child.pid) < 200e6
        child.communicate(b"\n")


def test_a_document_can_tell_machines_and_versions_apart():
    machine = describe_machine()
    assert machine.cpu
    assert machine.logical_cpus >= 1
    assert machine.memory_bytes > 2**28
    found = versions()
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert "numpy" in found


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("fpu avx2 avx512f avx512_vnni", "A CPU, AVX-512 with VNNI"),
        ("fpu avx avx2", "A CPU, AVX2"),
        ("fp asimd asimddp", "A CPU, dotprod"),
        ("fpu sse2", "A CPU"),
    ],
)
def test_chips_of_one_name_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, flags: str, told: str
) -> None:
    monkeypatch.setattr(sensors, "_cpu_name", lambda: "A CPU")
    monkeypatch.setattr(sensors, "read_flags", lambda: frozenset(flags.split()))
    assert describe_machine().cpu == told
