"""Busy processes: they compute, end with the context, and do not outlive who started them."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from edge_et.benchmarks.busy import busy_processes

MODULE = "edge_et.benchmarks.busy"
PATIENCE_S = 30.0


def busy_children(process: psutil.Process) -> list[psutil.Process]:
    return [
        child for child in process.children(recursive=True) if MODULE in " ".join(child.cmdline())
    ]


def test_they_compute_and_end_with_the_context():
    with busy_processes(2):
        busy = busy_children(psutil.Process())
        assert len(busy) == 2
        for process in busy:
            before = process.cpu_times().user
            while process.cpu_times().user < before + 0.05:  # would wait forever for a sleeping one
                pass
    assert busy_children(psutil.Process()) == []


def test_an_error_inside_ends_them_too():
    with pytest.raises(ZeroDivisionError), busy_processes(1):
        _ = 1 / 0
    assert busy_children(psutil.Process()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_they_are_gone_when_who_started_them_was_killed(number: signal.Signals):
    code = (
        "import signal, sys, time\n"
        # Whoever runs the tests in the background may have them ignore it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"from {MODULE} import busy_processes\n"
        "with busy_processes(2):\n"
        "    print('computing', flush=True)\n"
        "    time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()
        busy = busy_children(psutil.Process(program.pid))
        program.send_signal(number)
    assert len(busy) == 2
    _, alive = psutil.wait_procs(busy, timeout=PATIENCE_S)
    assert alive == []


@pytest.mark.slow
def test_they_are_gone_when_the_command_was_killed(tiny_bundle: Path):
    command = [sys.executable, "-m", "edge_et", "bench", "--model", str(tiny_bundle)]
    command += ["--busy", "2", "--samples", "1", "--threads", "1", "--baseline", "reuse-off"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as program:
        running = psutil.Process(program.pid)
        while len(busy := busy_children(running)) < 2:
            assert program.poll() is None
            time.sleep(0.1)
        program.kill()
    _, alive = psutil.wait_procs(busy, timeout=PATIENCE_S)
    assert alive == []
