import logging
from pathlib import Path

import pytest

import edge_et.threads
from edge_et.errors import OptionError
from edge_et.threads import available_cpus, choose_threads, cpu_quota


@pytest.fixture
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_et.threads, "available_cpus", lambda: 4)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_a_container_quota_bounds_the_threads(tmp_path: Path) -> None:
    none = tmp_path / "none"
    write(tmp_path / "v2" / "cpu.max", "150000 100000\n")
    assert cpu_quota(tmp_path / "v2", none) == 1.5
    write(tmp_path / "v2" / "cpu.max", "max 100000\n")
    assert cpu_quota(tmp_path / "v2", none) is None
    write(tmp_path / "v1" / "cpu" / "cpu.cfs_quota_us", "-1\n")
    write(tmp_path / "v1" / "cpu" / "cpu.cfs_period_us", "100000\n")
    assert cpu_quota(tmp_path / "v1", none) is None
    write(tmp_path / "v1" / "cpu" / "cpu.cfs_quota_us", "50000\n")
    assert cpu_quota(tmp_path / "v1", none) == 0.5
    assert cpu_quota(none, none) is None


def test_so_does_the_quota_of_a_service_and_of_what_it_is_part_of(tmp_path: Path) -> None:
    groups, own = tmp_path / "groups", tmp_path / "own"
    write(groups / "system.slice" / "cpu.max", "300000 100000\n")
    write(groups / "system.slice" / "a.service" / "cpu.max", "max 100000\n")
    write(groups / "system.slice" / "b.service" / "cpu.max", "200000 100000\n")
    write(own, "0::/system.slice/a.service\n")
    assert cpu_quota(groups, own) == 3
    write(own, "0::/system.slice/b.service\n")
    assert cpu_quota(groups, own) == 2
    write(own, "0::/elsewhere/c.service\n")
    assert cpu_quota(groups, own) is None
    write(groups / "cpu" / "d" / "cpu.cfs_quota_us", "100000\n")
    write(groups / "cpu" / "d" / "cpu.cfs_period_us", "100000\n")
    write(own, "12:pids:/e\n4:cpu,cpuacct:/d\n1:name=systemd:/d\n0::/system.slice/b.service\n")
    assert cpu_quota(groups, own) == 1
    write(own, "damaged\n")
    assert cpu_quota(groups, own) is None


def test_there_is_at_least_one_thread() -> None:
    assert available_cpus() >= 1


@pytest.mark.usefixtures("four_cpus")
def test_the_caller_goes_before_the_profile_and_that_before_the_machine() -> None:
    assert choose_threads(3, 2) == 3
    assert choose_threads(None, 2) == 2
    assert choose_threads(None) == 4
    for wrong in (0, -1, True, 1.0, 513):
        with pytest.raises(OptionError, match="threads"):
            choose_threads(wrong)  # type: ignore[arg-type]


@pytest.mark.usefixtures("four_cpus")
def test_there_are_never_more_threads_than_cpus(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_threads(4, 4) == 4
    assert caplog.records == []
    assert choose_threads(512, 2) == 4
    assert choose_threads(None, 5) == 4
    asked, profiled = caplog.records
    assert asked.levelno == profiled.levelno == logging.WARNING
    assert "4 threads instead of threads=512" in asked.getMessage()
    assert "the device profile's 5" in profiled.getMessage()
