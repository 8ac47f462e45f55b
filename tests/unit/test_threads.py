from pathlib import Path

import pytest

from edge_et.errors import OptionError
from edge_et.threads import available_cpus, choose_threads, cpu_quota


def test_a_container_quota_bounds_the_threads(tmp_path: Path) -> None:
    v2 = tmp_path / "cpu.max"
    v2.write_text("150000 100000\n")
    assert cpu_quota(v2, tmp_path / "none") == 1.5
    v2.write_text("max 100000\n")
    assert cpu_quota(v2, tmp_path / "none") is None
    (tmp_path / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota(tmp_path / "none", tmp_path) is None
    (tmp_path / "cpu.cfs_quota_us").write_text("50000\n")
    assert cpu_quota(tmp_path / "none", tmp_path) == 0.5
    assert cpu_quota(tmp_path / "none", tmp_path / "none") is None


def test_there_is_at_least_one_thread() -> None:
    assert available_cpus() >= 1


def test_the_caller_goes_before_the_profile_and_that_before_the_machine() -> None:
    assert choose_threads(3, 2) == 3
    assert choose_threads(None, 2) == 2
    assert choose_threads(None) == available_cpus()
    for wrong in (0, -1, True, 1.0, 513):
        with pytest.raises(OptionError, match="threads"):
            choose_threads(wrong)  # type: ignore[arg-type]
