"""edge-et on 64-bit ARM, emulated: docs/arm.md says what is run, and what came out.

What was answered is kept in build/arm, answer by answer, until edge-et or llama.cpp changes.
"""

import importlib.util
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tiny.bundle import build_bundle
from tiny.engine import ON_PREBUILT
from tiny.llama import PADDING_ROWS, write_llama
from tiny.places import EXAMPLES, ROOT

from edge_et.bundle import load_bundle
from edge_et.llm.batch_rules import IN_EVEN_CHUNKS, IN_GROUPS, BatchRules
from edge_et.pipeline.engine_judgement import MAX_KL
from edge_et.quantize.llama_quantizer import run_quantizer
from edge_et.weights import Unsupported, compare, reference_logits

SCRIPTS = ROOT / "scripts" / "arm"
sys.path.append(str(SCRIPTS))

import report  # noqa: E402
import row_groups  # noqa: E402
import system as arm  # noqa: E402
from elf import load_alignments  # noqa: E402

QUESTIONS = ROOT / "tests" / "data" / "mini_answers" / "questions.json"
RUNS = [("cortex-a76", "llama", 20), ("cortex-a72", "llama", 3), ("i8mm", "llama", 3)]
RUNS += [("cortex-a76", "prebuilt", 3), ("i8mm", "prebuilt", 3)]

IN_BLOCKS_OF_32 = ("F16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL")
TYPES = {192: IN_BLOCKS_OF_32, 256: (*IN_BLOCKS_OF_32, "Q4_K_M", "Q5_K_M", "Q6_K")}
"""By the width of the model; 192 is no multiple of 128, as that of the mini is none."""
MAX_MARGIN = 1.0
"""Most that a token was better by where another CPU writes another one, in logits."""

PAGE_BYTES = 16384
"""Of the kernel of a Raspberry Pi 5."""

FILES = (
    "unit/llm",
    "unit/store",
    "unit/test_cpu_flags.py",
    "unit/test_native_libraries.py",
    "unit/test_native_threads.py",
    "unit/test_threads.py",
    "integration/test_cancelling.py",
    "integration/test_engines.py",
    "integration/test_language_models.py",
    "integration/test_llama_cpp.py",
    "integration/test_onnx_runtime.py",
    "integration/test_prepared_weights.py",
    "integration/test_reference_logits.py",
    "integration/test_several_pictures.py",
    "integration/test_snapshots.py",
    "integration/test_text_session.py",
    "integration/test_thinking.py",
    "integration/test_tiled_pictures.py",
    "integration/test_whole_bundles.py",
    "tools/benchmarks/autotune/test_search.py",
)

COMPUTE = """
import ctypes
import ik_llama_cpp._ctypes_api as ik

ik.llama_backend_init()
row = (ctypes.c_float * 256)()
ik._lib.quantize_row_q8_0(row, (ctypes.c_char * 512)(), ctypes.c_int64(256))
print("computed")
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(arm.what_is_missing()), reason=arm.what_is_missing()),
    pytest.mark.skipif(ON_PREBUILT, reason="it has both engines"),
]


@pytest.fixture(scope="module")
def system() -> arm.System:
    return arm.make_system(arm.DEFAULT)


WRONG_IN_FEW_ROWS = ("prebuilt", 192, "Q5_1")
"""Engine, width and type that edge-et refuses by the same comparison: columns are left out."""

NOT_AS_ONE = ("prebuilt", 256, "F16")
"""Where two rows and more are rounded otherwise than one."""


def rules(cpu: str) -> BatchRules:
    return IN_EVEN_CHUNKS if cpu == "i8mm" else IN_GROUPS


def run(system: arm.System, cpu: str, arguments: Sequence[str | Path]) -> Any:
    command = system.command(cpu, arguments)
    environment = system.environment(cpu)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("cpu", "kernels"),
    [("cortex-a76", "DOTPROD"), ("cortex-a72", "NEON"), ("i8mm", "MATMUL_INT8")],
)
def test_one_build_has_the_kernels_of_each_cpu(
    system: arm.System, cpu: str, kernels: str, tmp_path: Path
) -> None:
    code = "from edge_et.llm import default_engine as d; print(d('llama').open().describe_build())"
    done = run(system, cpu, ["-c", code])
    told = {part.split(" = ")[0].split()[-1] for part in done.stdout.split("|") if " = 1" in part}
    assert kernels in told, done.stderr
    assert ("DOTPROD" in told) == (cpu != "cortex-a72")
    assert ("MATMUL_INT8" in told) == (cpu == "i8mm")


def test_a_raspberry_pi_4_is_told_what_it_lacks(system: arm.System, tiny_bundle: Path) -> None:
    words = ["answer", EXAMPLES / "cat.png", "What is this?", "--model", tiny_bundle]
    done = run(system, "cortex-a72", ["-m", "edge_et", *words, "--engine", "prebuilt"])
    assert done.returncode == 1
    lacks = "asimddp, asimdhp, fphp"
    assert f"'prebuilt' needs what this CPU does not have ({lacks})" in done.stderr
    assert "pip install 'edge-et[llama]'" in done.stderr


def test_what_it_is_told_is_needed(system: arm.System) -> None:
    assert run(system, "cortex-a76", ["-c", COMPUTE]).stdout == "computed\n"
    done = run(system, "cortex-a72", ["-c", COMPUTE])
    assert done.stdout == ""
    assert done.returncode in (-signal.SIGILL, 128 + signal.SIGILL)


@pytest.mark.parametrize("file", FILES)
def test_tests_pass(system: arm.System, file: str, tmp_path: Path) -> None:
    options = ["-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", tmp_path / "t"]
    command = system.command("cortex-a76", [*options, f"tests/{file}"])
    environment = system.environment("cortex-a76")
    assert subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(("cpu", "engine", "count"), RUNS)
def test_the_mini_answers_as_on_x86(system: arm.System, cpu: str, engine: str, count: int) -> None:
    if engine == "prebuilt" and importlib.util.find_spec("ik_llama_cpp") is None:
        pytest.skip("the prebuilt engine is not installed")
    folder = system.folder / f"answers-{system.state()}"
    expected, found = folder / f"x86-{engine}.jsonl", folder / f"{cpu}-{engine}.jsonl"
    program = [SCRIPTS / "answer.py", engine, QUESTIONS]
    subprocess.run([sys.executable, *program, expected, "20"], check=True)
    command = system.command(cpu, [*program, found, str(count)])
    subprocess.run(command, env=system.environment(cpu), check=True)
    rows = report.compare(expected, found)
    assert len(rows) == count
    for row in rows:
        assert row.margin is None or row.margin < MAX_MARGIN, row
    # The bound of the check "vision int8 weight-only" of the mini's manifest, over all pictures.
    assert np.mean([row.off for row in rows]) < 0.01
    for line in report.read_record(found):
        if "again" in line:
            assert line["again"] == [choice[0] for choice in line["choices"]]
            assert line["reused"] > 126  # the picture's, and words before it


@pytest.fixture(scope="module", params=list(TYPES))
def weights(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in every type, quantized here."""
    width = request.param
    folder, bundle = tmp_path_factory.mktemp(f"{width}") / f"{width}", tmp_path_factory.mktemp("of")
    folder.mkdir()
    build_bundle(bundle)
    spec = msgspec.structs.replace(load_bundle(bundle).manifest.perceiver, embedding_width=width)
    source = bundle / "F32.gguf"
    write_llama(source, bundle / "tokenizer.json", seed=11, width=width, feed_forward=width)
    for kind in TYPES[width]:
        run_quantizer(source, folder / f"{kind}.gguf", kind)
    (folder / "model.json").write_bytes(msgspec.json.encode(spec))
    return folder


@pytest.mark.parametrize("engine", ["llama", "prebuilt"])
@pytest.mark.parametrize("cpu", list(arm.CPUS))
def test_weights_of_every_type_compute_what_they_should_in_groups_of_rows(
    system: arm.System, weights: Path, cpu: str, engine: str
) -> None:
    if engine == "prebuilt" and cpu == "cortex-a72":
        pytest.skip("it cannot run there")
    out = system.folder / f"rows-{system.state()}" / f"{cpu}-{engine}-{weights.name}"
    program = [SCRIPTS / "row_groups.py", engine, weights, out]
    subprocess.run(system.command(cpu, program), env=system.environment(cpu), check=True)
    for kind in TYPES[int(weights.name)]:
        case = (engine, int(weights.name), kind)
        expected = reference_logits(weights / f"{kind}.gguf", None, row_groups.IDS)
        assert not isinstance(expected, Unsupported)
        logits = np.load(out / f"{kind}.npz")
        for rows in ("one", "many"):
            # Padding rows are fifty times as large.
            far = compare(expected[:, :-PADDING_ROWS], logits[rows][:, :-PADDING_ROWS]).kl
            is_right = rows == "many" or case != WRONG_IN_FEW_ROWS
            assert (far < MAX_KL) == is_right, (kind, rows)
        sizes = json.loads((out / f"{kind}.json").read_text())
        if engine == "llama":
            most = rules(cpu).most
            whole = {n for n in row_groups.SIZES if n % 8 == 0 and n <= most}
            assert whole <= set(sizes["as_eight"]), kind
        else:
            few = {n for n in row_groups.SIZES if n < 16}
            assert (few <= set(sizes["as_one"])) == (case != NOT_AS_ONE), kind
            assert {n for n in row_groups.SIZES if n > 63} <= set(sizes["as_many"]), kind


def test_libraries_can_be_mapped_where_pages_have_16_kib(system: arm.System) -> None:
    parts = [system.folder / name for name in ("packages", "llama.cpp")]
    libraries = [path for part in parts for path in part.rglob("*.so*") if path.is_file()]
    aligned = {path.name: load_alignments(path) for path in libraries}
    assert len(aligned) > 20
    assert {"libllama.so", "libggml-cpu-armv8.2_2.so"} <= set(aligned)
    small = {name: found for name, found in aligned.items() if min(found) < PAGE_BYTES}
    assert small == {}
