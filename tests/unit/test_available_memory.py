"""How much memory may be taken: the least of what the machine and each control group leave."""

from pathlib import Path

import pytest

from edge_et.available_memory import available_bytes

MB = 2**20


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Eight MB are free, and the group of the process sets no bound."""
    (tmp_path / "meminfo").write_text("MemTotal: 16384 kB\nMemAvailable:    8192 kB\n")
    (tmp_path / "groups").mkdir()
    (tmp_path / "own").write_text("0::/service/edge-et\n")
    return tmp_path


def found(machine: Path) -> int | None:
    return available_bytes(machine / "meminfo", machine / "groups", machine / "own")


def write_group(folder: Path, **files: object) -> None:
    """Write files; the first underscore of a name stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{content}\n")


def test_the_machine_tells_without_groups(machine: Path) -> None:
    assert found(machine) == 8 * MB
    (machine / "meminfo").write_text("MemAvailable: many kB\n")
    assert found(machine) is None


def test_a_group_leaves_what_is_not_taken_and_the_pages_of_files(machine: Path) -> None:
    group = machine / "groups" / "service" / "edge-et"
    write_group(group, memory_max=5 * MB, memory_current=3 * MB)
    write_group(group, memory_stat=f"anon 1\ninactive_file {MB}\n")
    assert found(machine) == 3 * MB
    write_group(group, memory_current=9 * MB, memory_stat="inactive_file 0")
    assert found(machine) == 0


def test_a_group_above_bounds_as_well(machine: Path) -> None:
    stat = {"memory_current": 0, "memory_stat": "inactive_file 0"}
    write_group(machine / "groups" / "service" / "edge-et", memory_max=7 * MB, **stat)
    write_group(machine / "groups" / "service", memory_max=2 * MB, **stat)
    write_group(machine / "groups", memory_max="max", **stat)
    assert found(machine) == 2 * MB


def test_groups_of_version_1(machine: Path) -> None:
    (machine / "own").write_text("7:memory:/docker/abc\n")
    write_group(
        machine / "groups" / "memory",
        memory_limit_in_bytes=4 * MB,
        memory_usage_in_bytes=MB,
        memory_stat=f"cache 5\ntotal_inactive_file {MB // 2}\n",
    )
    assert found(machine) == 3 * MB + MB // 2
