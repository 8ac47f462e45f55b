from pathlib import Path

import pytest

from edge_et.camera.throttling import Rest

FIRMWARE = "devices/platform/soc/soc:firmware/get_throttled"


def write(system: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = system / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return system


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
        "the CPU is slowed down, so answers come less often",
        "the CPU is no longer slowed down",
    ]
