from pathlib import Path

import pytest

from edge_et.camera.throttling import Rest, is_throttled

FIRMWARE = "devices/platform/soc/soc:firmware/get_throttled"
FIRMWARE_5 = "devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled"


def write(system: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = system / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return system


def cooling(kind: str, state: str) -> dict[str, str]:
    folder = "class/thermal/cooling_device0"
    return {f"{folder}/type": kind, f"{folder}/cur_state": state}


@pytest.mark.parametrize(
    ("files", "throttled"),
    [
        ({}, False),
        ({FIRMWARE: "0"}, False),
        ({FIRMWARE: "50000"}, False),  # has been, since the boot
        ({FIRMWARE: "50005"}, True),
        ({FIRMWARE_5: "8"}, True),
        (cooling("cpufreq-cpu0", "0"), False),
        (cooling("cpufreq-cpu0", "2"), True),
        (cooling("thermal-cpufreq-0", "1"), True),
        (cooling("Processor", "3"), True),
        (cooling("pwm-fan", "3"), False),
        (cooling("cpufreq-cpu0", ""), False),
    ],
)
def test_what_linux_tells_is_read(tmp_path: Path, files: dict[str, str], throttled: bool) -> None:
    assert is_throttled(write(tmp_path, files)) is throttled


@pytest.mark.parametrize("text", ["", "who knows", "0x0"])
def test_what_cannot_be_read_is_not_throttled(tmp_path: Path, text: str) -> None:
    assert not is_throttled(write(tmp_path, {FIRMWARE: text}))


def test_rests_grow_while_it_is_hot_and_shrink_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rest = Rest(write(tmp_path, {FIRMWARE: "4"}))
    assert [rest.seconds_behind(3) for _ in range(5)] == [3, 6, 12, 24, 24]
    assert rest.seconds_behind(20) == 60  # at most
    assert rest.is_throttled
    write(tmp_path, {FIRMWARE: "40000"})
    assert [rest.seconds_behind(3) for _ in range(5)] == [12, 6, 3, 0, 0]
    assert not rest.is_throttled
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "the CPU is slowed down (heat, or a weak power supply)",
        "the CPU is no longer slowed down",
    ]
