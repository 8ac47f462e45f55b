"""What the emulated ARM is judged by: records of answers, and headers of libraries."""

import importlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny.places import ROOT


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "arm"))
    return importlib.import_module


def write_record(path: Path, tokens: list[int], margin: float, rows: np.ndarray) -> None:
    line = {
        "question": "What?",
        "text": str(tokens),
        "choices": [(token, 0, margin) for token in tokens],
        "seconds": 2.0,
    }
    path.write_text(json.dumps(line) + "\n")
    np.save(path.with_name(f"{path.stem}-0.npy"), rows)


@pytest.mark.parametrize(
    ("found", "same", "margin"),
    [([5, 6, 7], 3, None), ([5, 9, 7], 1, 0.25), ([5, 9], 1, 0.25)],
)
def test_an_answer_is_compared_to_its_first_other_token(
    scripts: Any, tmp_path: Path, found: list[int], same: int, margin: float | None
) -> None:
    rows = np.eye(4, dtype=np.float32)
    others = rows.copy()
    others[2] = (0, 1, 1, 0)
    write_record(tmp_path / "x86-llama.jsonl", [5, 6, 7], 0.25, rows)
    write_record(tmp_path / "cortex-a76-llama.jsonl", found, 3.0, others)
    report = scripts("report")
    (row,) = report.compare(tmp_path / "x86-llama.jsonl", tmp_path / "cortex-a76-llama.jsonl")
    assert (row.same, row.tokens, row.margin, row.off) == (same, 3, margin, 0.25)
    assert row.cosine == pytest.approx(0.5**0.5)
    (line,) = report.table(tmp_path)[2:]
    assert line.startswith("| cortex-a76, llama | 1 |")
    assert len(report.differences(tmp_path)) == (margin is not None)


def test_a_line_that_was_left_half_written_is_written_again(scripts: Any, tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    record.write_text('{"text": "cat"}\n{"text": "do')
    assert scripts("answer").read_record(record) == [{"text": "cat"}]
    assert record.read_text() == '{"text": "cat"}\n'


def write_elf(path: Path, machine: int, alignments: list[int]) -> None:
    numbers = (3, machine, 1, 0, 64, 0, 0, 64, 56, len(alignments) + 1)
    header = b"\x7fELF\x02\x01" + bytes(10) + struct.pack("<HHIQQQIHHH", *numbers)
    parts = [struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, 0, 0, size) for size in alignments]
    note = struct.pack("<IIQQQQQQ", 4, 5, 0, 0, 0, 0, 0, 4)
    path.write_bytes(header.ljust(64, b"\0") + note + b"".join(parts))


def test_parts_that_are_mapped_tell_their_alignment(scripts: Any, tmp_path: Path) -> None:
    write_elf(tmp_path / "a.so", 183, [65536, 4096])
    elf = scripts("elf")
    assert elf.load_alignments(tmp_path / "a.so") == [65536, 4096]
    write_elf(tmp_path / "x86.so", 62, [4096])
    for other in (tmp_path / "x86.so", Path(__file__)):
        with pytest.raises(ValueError, match="no little-endian 64-bit ELF file for ARM"):
            elf.load_alignments(other)


def test_llama_cpp_is_told_which_kernels_to_compile(scripts: Any, tmp_path: Path) -> None:
    lists = tmp_path / "CMakeLists.txt"
    before = 'if (CMAKE_SYSTEM_NAME MATCHES "Linux")\n  link()\nendif()\n'
    behind = "elseif (other)\n"
    begin = '    elseif(GGML_SYSTEM_ARCH STREQUAL "ARM")\n if (CMAKE_SYSTEM_NAME MATCHES "Linux")\n'
    lists.write_text(f"{before}{begin}  add(armv8.0_1)\n  add(armv9.2_1 SME)\n{behind}")
    compiler = scripts("cross_compile")
    for _ in range(2):
        compiler.choose_kernels(lists)
        text = lists.read_text()
        assert text.startswith(before + begin)
        assert text.endswith(behind)
        assert "SME" not in text
        for tag, has in compiler.KERNELS.items():
            assert text.count(f"ggml_add_cpu_backend_variant({tag} {has})") == 1
