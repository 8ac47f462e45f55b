"""What is said of CPUs, memory, disk and heat, on machines that are folders."""

from pathlib import Path

import pytest

from edge_et.bundle import Bundle, load_bundle
from edge_et.checkup import Machine
from edge_et.checkup.machine import check_disk, check_heat, check_memory, check_threads
from edge_et.pipeline import kv_cache_bytes


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine that tells nothing yet."""
    (tmp_path / "groups").mkdir()
    return Machine(
        cpuinfo=tmp_path / "cpuinfo",
        meminfo=tmp_path / "meminfo",
        sys=tmp_path / "sys",
        groups=tmp_path / "groups",
        own_groups=tmp_path / "own",
    )


@pytest.fixture(scope="module")
def bundle(tiny_pair: Path) -> Bundle:
    return load_bundle(tiny_pair)


def test_memory_that_suffices_and_memory_that_does_not(machine: Machine, bundle: Bundle) -> None:
    unknown = check_memory(machine, bundle, None)
    assert (unknown.status, unknown.figures["available_bytes"]) == ("ok", None)
    parts, needed = unknown.figures["parts_bytes"], unknown.figures["needed_bytes"]
    assert isinstance(parts, dict)
    assert isinstance(needed, int)
    assert parts["KV caches"] == kv_cache_bytes(bundle, "f16")
    assert parts["weights"] > sum(
        spec.weights.size_bytes
        for spec in (bundle.manifest.perceiver, bundle.manifest.reasoner)
        if spec
    )
    assert needed >= sum(parts.values())
    machine.meminfo.write_text(f"MemAvailable: {(needed + 20_000_000) // 1024} kB\n")
    found = check_memory(machine, bundle, None)
    assert (found.status, found.advice) == ("ok", ())
    machine.meminfo.write_text(f"MemAvailable: {(needed - 50_000_000) // 1024} kB\n")
    found = check_memory(machine, bundle, None)
    assert found.status == "warning"
    assert "MB are missing" in found.advice[0]


@pytest.mark.usefixtures("many_cpus")
def test_a_quota_that_is_no_whole_number_of_cpus_is_told(machine: Machine) -> None:
    assert check_threads(machine, None).status == "ok"
    (machine.groups / "cpu.max").write_text("150000 100000\n")
    found = check_threads(machine, None)
    assert found.status == "warning"
    assert found.figures["quota_cpus"] == 1.5
    assert found.figures["threads"] == 2
    assert "1.5" in found.advice[0]
    (machine.groups / "cpu.max").write_text("200000 100000\n")
    assert check_threads(machine, None).status == "ok"


def test_caches_that_cannot_be_written_are_a_warning(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    found = check_disk(bundle)
    assert found.status == "ok"
    assert found.figures["folder"] == str(tmp_path / "caches" / "edge-et" / "weights")
    assert not (tmp_path / "caches").exists()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert check_disk(bundle).status == "warning"


def test_a_disk_that_is_full_is_a_warning(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("edge_et.checkup.needs.bytes_to_prepare", lambda _: 2**60)
    found = check_disk(bundle)
    assert found.status == "warning"
    assert found.figures["needed_bytes"] == 2**60
    assert found.advice[0].startswith("free ")


def put(place: Path, content: object) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(f"{content}\n")


def test_a_machine_that_says_nothing_of_heat_is_ok(machine: Machine) -> None:
    found = check_heat(machine)
    assert (found.status, found.figures["hottest_celsius"]) == ("ok", None)


def test_a_warm_board_and_a_hot_one(machine: Machine) -> None:
    zone = machine.sys / "class" / "thermal" / "thermal_zone0"
    put(zone / "type", "cpu")
    put(zone / "trip_point_0_type", "passive")
    put(zone / "trip_point_0_temp", 80_000)
    for celsius, status, is_throttled in (
        (60, "ok", False),
        (77, "warning", False),
        (85, "warning", True),
    ):
        put(zone / "temp", celsius * 1000)
        found = check_heat(machine)
        assert found.status == status
        assert found.figures["is_throttled"] == is_throttled
        assert found.figures["hottest_celsius"] == celsius
        assert any("cool" in advice for advice in found.advice) == (status == "warning")


def test_a_weak_power_supply_is_told_also_afterwards(machine: Machine) -> None:
    place = machine.sys / "devices" / "platform" / "soc" / "soc:firmware" / "get_throttled"
    for bits, is_throttled in (("1", True), ("10000", False)):
        put(place, bits)
        found = check_heat(machine)
        assert found.status == "warning"
        assert found.figures["is_throttled"] == is_throttled
        assert any("power supply" in advice for advice in found.advice)
    put(place, "0")
    assert check_heat(machine).status == "ok"


def test_a_clock_that_is_held_low_is_told(machine: Machine) -> None:
    policy = machine.sys / "devices" / "system" / "cpu" / "cpufreq" / "policy0"
    put(policy / "cpuinfo_max_freq", 2_400_000)
    put(policy / "scaling_max_freq", 1_500_000)
    found = check_heat(machine)
    assert found.status == "warning"
    assert "1.50 of 2.40 GHz" in found.summary
    assert not any("fan" in advice for advice in found.advice)
