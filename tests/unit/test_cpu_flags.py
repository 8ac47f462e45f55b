from pathlib import Path

import pytest
from tiny.places import ROOT

from edge_et.cpu_flags import missing_for, read_flags

SAMPLES = ROOT / "tests" / "data" / "cpuinfo"


@pytest.mark.parametrize(
    ("sample", "machine", "expected"),
    [
        ("core-i5-6500", "x86_64", ()),
        ("celeron-j4105", "x86_64", ("avx", "avx2", "f16c", "fma")),
        ("raspberry-pi-4", "aarch64", ("asimddp", "asimdhp", "fphp")),
        ("raspberry-pi-5", "aarch64", ()),
    ],
)
def test_what_the_prebuilt_engine_lacks_is_named(
    sample: str, machine: str, expected: tuple[str, ...]
) -> None:
    path = SAMPLES / f"{sample}.txt"
    assert missing_for("prebuilt", machine, path) == expected
    assert missing_for("llama", machine, path) == ()


def test_cores_that_differ_have_what_all_of_them_have(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    texts = ((SAMPLES / f"raspberry-pi-{number}.txt").read_text() for number in (5, 4))
    path.write_text("\n".join(texts))
    assert missing_for("prebuilt", "aarch64", path) == ("asimddp", "asimdhp", "fphp")


@pytest.mark.parametrize("text", ["", "processor : 0\nmodel name : unknown\n"])
def test_nothing_is_missing_where_there_is_no_telling(text: str, tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert read_flags(path) is None
    assert missing_for("prebuilt", "x86_64", path) == ()
    assert missing_for("prebuilt", "x86_64", tmp_path / "none") == ()
    assert missing_for("prebuilt", "riscv64", SAMPLES / "celeron-j4105.txt") == ()
