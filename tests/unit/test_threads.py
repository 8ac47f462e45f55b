import logging
import os
import sys
from pathlib import Path

import pytest

import edge_et.threads
from edge_et.errors import OptionError
from edge_et.threads import SpareThreads, available_cpus, choose_threads, cpu_quota, used_cpus


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


def test_a_quota_of_a_group_whose_name_is_no_text_is_found(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    write(tmp_path / "groups" / name / "cpu.max", "100000 100000\n")
    (tmp_path / "own").write_bytes(b"0::/" + os.fsencode(name) + b"\n")
    assert cpu_quota(tmp_path / "groups", tmp_path / "own") == 1


@pytest.mark.parametrize(
    "content", ["nan 100000", "inf 100000", "100000 nan", "1 0", "few", "-1 1"]
)
def test_a_quota_that_is_no_number_bounds_nothing(tmp_path: Path, content: str) -> None:
    write(tmp_path / "cpu.max", content)
    assert cpu_quota(tmp_path, tmp_path / "none") is None


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


class Machine:
    """Other programs, and this process, that use some of its CPUs from one second to the next."""

    def __init__(self, cpus: int) -> None:
        self._cpus = cpus
        self._now = self._own = self._used = 0.0
        self.is_told = True

    def spare(self, most: int) -> SpareThreads:
        def used() -> tuple[int, float] | None:
            return (self._cpus, self._used) if self.is_told else None

        return SpareThreads(most, now=lambda: self._now, own=lambda: self._own, used=used)

    def run(self, *, others: float, own: float, seconds: float = 1.0) -> None:
        self._now += seconds
        self._own += own * seconds
        self._used += (own + others) * seconds


def test_tokens_get_as_many_threads_as_other_programs_leave_cpus() -> None:
    machine = Machine(4)
    spare = machine.spare(4)
    found = [spare.for_tokens()]
    for others, own in ((0.1, 3.9), (0.8, 3.2), (1.0, 3.0), (0.0, 3.0), (2.0, 2.0), (3.0, 1.0)):
        machine.run(others=others, own=own)
        found.append(spare.for_tokens())
    assert found == [4, 4, 3, 3, 4, 2, 2]  # half of them at least
    assert spare.most == 4


def test_a_program_that_uses_half_a_cpu_changes_nothing_back_and_forth() -> None:
    machine = Machine(2)
    spare = machine.spare(2)
    found = [spare.for_tokens()]
    for others in (0.4, 0.55, 0.45, 0.7, 0.55, 0.45, 1.3, 0.5, 0.3, 0.5):
        machine.run(others=others, own=1.0)
        found.append(spare.for_tokens())
    assert found == [2, 2, 2, 2, 1, 1, 1, 1, 1, 2, 2]


def test_spare_threads_are_looked_for_now_and_then() -> None:
    machine = Machine(2)
    spare = machine.spare(2)
    spare.for_tokens()
    machine.run(others=1.0, own=1.0, seconds=0.4)
    assert spare.for_tokens() == 2
    machine.run(others=1.0, own=1.0, seconds=0.2)
    assert spare.for_tokens() == 1


def test_there_are_all_threads_where_free_cpus_suffice_or_are_not_known() -> None:
    machine = Machine(64)  # of which this process may use as many as two
    spare = machine.spare(2)
    spare.for_tokens()
    machine.run(others=63.0, own=1.0)
    assert spare.for_tokens() == 1
    machine.run(others=62.0, own=2.0)
    assert spare.for_tokens() == 2
    machine.is_told = False
    machine.run(others=64.0, own=0.0)
    assert spare.for_tokens() == 2
    assert Machine(4).spare(1).for_tokens() == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")
def test_the_system_tells_what_the_cpus_have_done() -> None:
    told = used_cpus()
    assert told is not None
    cpus, seconds = told
    assert cpus == len(os.sched_getaffinity(0))
    assert seconds > 0
