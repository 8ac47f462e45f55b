"""What the machine tells of heat, voltage and clocks, out of folders such as /sys has them."""

from pathlib import Path

import pytest

from edge_et.sensors import (
    board_state,
    cpu_clocks,
    decode_board_state,
    temperature_c,
    thermal_zones,
    throttling_reasons,
)


def put(sys: Path, **files: object) -> None:
    """Write files; a double underscore in a name stands for a slash."""
    for name, content in files.items():
        path = sys / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")


def put_zone(sys: Path, celsius: float, *, number: int = 0, slows: float = 80) -> None:
    zone = sys / "class" / "thermal" / f"thermal_zone{number}"
    put(
        zone,
        type="cpu-thermal",
        temp=round(celsius * 1000),
        trip_point_0_type="critical",
        trip_point_0_temp=110_000,
        trip_point_1_type="passive",
        trip_point_1_temp=round(slows * 1000),
    )


def put_board(sys: Path, bits: str, soc: str = "soc") -> None:
    place = sys / "devices" / "platform" / soc / f"{soc}:firmware"
    place.mkdir(parents=True)
    (place / "get_throttled").write_text(f"{bits}\n")


def test_a_machine_that_tells_nothing_is_not_throttled(tmp_path: Path):
    assert temperature_c(tmp_path) is None
    assert thermal_zones(tmp_path) == []
    assert cpu_clocks(tmp_path) == []
    assert board_state(tmp_path) is None
    assert throttling_reasons(tmp_path) == []


def test_a_zone_tells_its_temperature_and_from_when_on_it_slows_down(tmp_path: Path):
    put_zone(tmp_path, 61.25)
    put_zone(tmp_path, 40, number=1)
    (zone, other) = thermal_zones(tmp_path)
    assert (zone.name, zone.celsius, zone.slows_c, zone.critical_c) == (
        "cpu-thermal",
        61.25,
        80,
        110,
    )
    assert other.celsius == 40
    assert temperature_c(tmp_path) == 61.25
    assert throttling_reasons(tmp_path) == []
    put_zone(tmp_path, 80.5)
    (reason,) = throttling_reasons(tmp_path)
    assert "80 °C" in reason
    assert "cpu-thermal" in reason


def test_sensors_without_a_zone_count_and_those_that_are_not_connected_do_not(tmp_path: Path):
    put(tmp_path / "class" / "hwmon" / "hwmon0", temp1_input=55_000, temp2_input=-274_000)
    put(tmp_path / "class" / "hwmon" / "hwmon1", temp1_input="", temp2_input="no number")
    assert temperature_c(tmp_path) == 55


def test_a_zone_that_cannot_be_read_is_passed_over(tmp_path: Path):
    put_zone(tmp_path, 50)
    put(tmp_path / "class" / "thermal" / "thermal_zone1", type="off", temp="")
    put(tmp_path / "class" / "thermal" / "thermal_zone2", type="bare", temp=30_000)
    assert [zone.name for zone in thermal_zones(tmp_path)] == ["cpu-thermal", "bare"]
    assert thermal_zones(tmp_path)[1].slows_c is None


def test_clocks_tell_their_limit(tmp_path: Path):
    cpufreq = tmp_path / "devices" / "system" / "cpu" / "cpufreq"
    clock = {"cpuinfo_max_freq": 2_400_000, "scaling_max_freq": 1_500_000}
    put(cpufreq / "policy0", **clock, scaling_cur_freq=600_000)
    put(cpufreq / "policy4", **clock, scaling_cur_freq="<unknown>")
    put(cpufreq / "policy8", scaling_max_freq=1)
    first, second = cpu_clocks(tmp_path)
    assert (first.name, first.hertz, first.limit_hertz, first.most_hertz) == (
        "policy0",
        0.6e9,
        1.5e9,
        2.4e9,
    )
    assert second.hertz is None
    assert throttling_reasons(tmp_path) == []


@pytest.mark.parametrize(
    ("bits", "now", "before"),
    [
        ("0", [], []),
        ("50005", ["under_voltage", "is_throttled"], ["had_under_voltage", "was_throttled"]),
        ("e0000", [], ["was_capped", "was_throttled", "was_at_soft_limit"]),
        ("A", ["is_capped", "is_at_soft_limit"], []),
    ],
)
def test_the_bits_of_a_raspberry_pi(tmp_path: Path, bits: str, now: list[str], before: list[str]):
    put_board(tmp_path, bits)
    state = board_state(tmp_path)
    assert state is not None
    names = type(state).__dataclass_fields__
    assert [name for name in names if getattr(state, name)] == now + before
    assert len(throttling_reasons(tmp_path)) == len(now)
    assert decode_board_state(int(bits, 16)) == state


def test_a_kernel_without_that_file_tells_of_the_voltage_alone(tmp_path: Path):
    put(tmp_path / "class" / "hwmon" / "hwmon0", name="cpu_thermal", temp1_input=50_000)
    put(tmp_path / "class" / "hwmon" / "hwmon1", name="rpi_volt", in0_lcrit_alarm=1)
    state = board_state(tmp_path)
    assert state is not None
    assert state.under_voltage
    assert not state.had_under_voltage
    put(tmp_path / "class" / "hwmon" / "hwmon1", in0_lcrit_alarm=0)
    assert board_state(tmp_path) == decode_board_state(0)


def test_a_raspberry_pi_5_calls_its_chip_by_an_address(tmp_path: Path):
    put_board(tmp_path, "50005", "soc@107c000000")
    assert board_state(tmp_path) == decode_board_state(0x50005)


def test_what_the_firmware_says_wrongly_is_not_believed(tmp_path: Path):
    put_board(tmp_path, "throttled?")
    assert board_state(tmp_path) is None


def test_a_cpu_that_is_cooled_by_its_clock_is_throttled(tmp_path: Path):
    thermal = tmp_path / "class" / "thermal"
    put(thermal / "cooling_device0", type="pwm-fan", cur_state=3)
    put(thermal / "cooling_device1", type="cpufreq-cpu0", cur_state=0)
    assert throttling_reasons(tmp_path) == []
    put(thermal / "cooling_device1", cur_state=2)
    (reason,) = throttling_reasons(tmp_path)
    assert "cpufreq-cpu0" in reason
