"""The command line as a process: what it prints where, and its exit status."""

import functools
import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image
from tiny.bundle import build_bundle
from tiny.profiles import write_profile
from tiny.thoughts import HINTED, THOUGHTS, change_bundle

import edge_et
from edge_et.bundle import load_bundle
from edge_et.llm import installed_engines
from edge_et.pipeline import ModelSpeed
from edge_et.threads import available_cpus

QUESTION = "What is on the table?"


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, size=(40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge_et", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def expected(tiny_bundle: Path, picture: Path) -> edge_et.Answer:
    with edge_et.load(tiny_bundle) as pipe:
        return pipe.answer(picture, QUESTION)


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


def test_a_pipe_gets_the_answer_alone(tiny_bundle: Path, picture: Path, expected: edge_et.Answer):
    result = run("answer", picture, QUESTION, "--model", tiny_bundle)
    assert result.returncode == 0
    assert result.stdout.removesuffix("\n") == printable_answer(expected.text)
    assert result.stderr == ""


def printable_answer(text: str) -> str:
    from edge_et.cli.console import printable

    return printable(text)


def test_stages_are_shown_on_request(tiny_bundle: Path, picture: Path, expected: edge_et.Answer):
    result = run("answer", picture, QUESTION, "--model", tiny_bundle, "--show-stages")
    assert result.stdout == (
        f"Extraction: {printable_answer(expected.extraction)}\n"
        f"Reasoning: {printable_answer(expected.reasoning)}\n"
        f"Answer: {printable_answer(expected.text)}\n"
        "Cut: extract (length), think (length), answer (length)\n"
    )


def test_json_is_one_document(tiny_bundle: Path, picture: Path, expected: edge_et.Answer):
    result = run("answer", picture, QUESTION, "--model", tiny_bundle, "--json")
    document = json.loads(result.stdout)
    assert document["text"] == expected.text
    assert document["extraction"] == expected.extraction
    assert document["hint"] == ""
    assert document["finish_reasons"] == dict.fromkeys(("extract", "think", "answer"), "length")
    assert list(document["usage"]) == ["image", "vision", "extract", "think"]


def test_a_terminal_sees_the_stages_as_they_are_written(
    tiny_bundle: Path, picture: Path, expected: edge_et.Answer
):
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "edge_et", "answer", str(picture), QUESTION]
    process = subprocess.Popen(
        [*command, "--model", str(tiny_bundle), "--show-stages"], stdout=theirs
    )
    os.close(theirs)
    written = b""
    try:
        while block := os.read(ours, 4096):
            written += block
    except OSError:  # how Linux tells that the other end was closed
        pass
    os.close(ours)
    assert process.wait(timeout=60) == 0
    text = written.decode().replace("\r\n", "\n")
    for title, stage in (("Extraction", expected.extraction), ("Answer", expected.text)):
        assert f"{title}: {printable_answer(stage)}".rstrip() in text
    assert text.endswith("\nCut: extract (length), think (length), answer (length)\n")


def test_budgets_and_sampling_arrive(tiny_bundle: Path, picture: Path):
    options = ("--max-extraction-tokens", 3, "--max-thinking-tokens", 2, "--max-answer-tokens", 1)
    result = run("answer", picture, QUESTION, "--model", tiny_bundle, "--json", *options)
    usage = json.loads(result.stdout)["usage"]
    assert usage["extract"]["generated_tokens"] <= 3
    assert usage["think"]["generated_tokens"] <= 3


def test_hint_thinking_and_deadline_arrive(picture: Path, tmp_path: Path):
    build_bundle(tmp_path)
    thoughts = replace(THOUGHTS, max_thinking_tokens=3)
    change_bundle(tmp_path, extract={"prompt": HINTED}, think={"thoughts": thoughts})
    command = ("answer", picture, QUESTION, "--model", tmp_path)
    shown = run(*command, "--show-stages", "--hint", "the red car.")
    assert "\nHint: the red car\n" in shown.stdout

    def document(*options: object) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(run(*command, "--json", *options).stdout)
        return answer

    plain, thinking = document("--no-thinking"), document("--thinking")
    assert plain["hint"] == QUESTION
    assert plain["usage"]["think"]["generated_tokens"] > 3 + 8
    assert thinking["usage"]["think"]["generated_tokens"] == 3 + 8
    late = document("--deadline-s", 1e-9)
    assert late["finish_reasons"]["extract"] == "deadline"
    assert late["text"]
    wrong = run(*command, "--deadline-s", 0)
    assert wrong.returncode == 1
    assert "deadline_s" in one_line(wrong)


def test_errors_are_one_line_and_status_1(tiny_bundle: Path, picture: Path, tmp_path: Path):
    missing = run("answer", tmp_path / "none.png", QUESTION, "--model", tiny_bundle)
    assert missing.returncode == 1
    assert "none.png" in one_line(missing)

    url = run("answer", "http://localhost/a.jpg", QUESTION, "--model", tiny_bundle)
    assert url.returncode == 1
    assert "URLs are not fetched" in one_line(url)

    no_model = run("answer", picture, QUESTION, "--model", "nothing-of-that-name")
    assert no_model.returncode == 1
    assert "nothing-of-that-name" in one_line(no_model)

    wrong = run("answer", picture, QUESTION, "--model", tiny_bundle, "--temperature", -1)
    assert wrong.returncode == 1
    assert "temperature" in one_line(wrong)

    empty = run("answer", picture, "  ", "--model", tiny_bundle)
    assert empty.returncode == 1
    assert "question" in one_line(empty)


def test_wrong_usage_is_status_2():
    assert run("answer").returncode == 2
    assert run("nonsense").returncode == 2


def test_help_names_the_commands():
    result = run("--help")
    assert result.returncode == 0
    for command in ("answer", "info", "doctor", "export", "quantize", "autotune", "train"):
        assert command in result.stdout
    assert "tuning" not in result.stdout


@pytest.mark.parametrize(
    ("old", "new"),
    [(("tune",), "edge-et autotune"), (("tuning", "train"), "train run")],
)
def test_old_names_of_commands_work_and_warn(old: tuple[str, ...], new: str):
    result = run(*old, "--help")
    assert result.returncode == 0
    assert new in result.stderr
    assert "Usage" in result.stdout


def test_options_of_a_bundle_arrive(tiny_bundle: Path, picture: Path, tmp_path: Path):
    command = ("answer", picture, QUESTION, "--model", tiny_bundle)
    refused = run(*command, "--max-kv-bytes", 1)
    assert refused.returncode == 1
    assert "max_kv_bytes is 1" in one_line(refused)
    for name, value in (("kv-type", "q4"), ("threads", 0), ("cache-bytes", -1)):
        wrong = run(*command, f"--{name}", value)
        assert wrong.returncode == 1
        assert name.replace("-", "_") in one_line(wrong)
    kept = run(*command, "--cache-dir", tmp_path, "--no-use-profile", "--prompt-lookup")
    assert kept.returncode == 0
    assert list(tmp_path.rglob("*.snapshot"))


def test_more_threads_than_cpus_are_too_many(
    tiny_bundle: Path, picture: Path, expected: edge_et.Answer
):
    result = run("answer", picture, QUESTION, "--model", tiny_bundle, "--threads", 512)
    assert result.stdout.removesuffix("\n") == printable_answer(expected.text)
    (line,) = result.stderr.splitlines()
    assert f"{available_cpus()} threads instead of threads=512" in line


def test_info_verifies_every_byte(tiny_bundle: Path, tmp_path: Path):
    whole = run("info", tiny_bundle, "--json")
    assert whole.returncode == 0
    document = json.loads(whole.stdout)
    assert document["verified"] is True
    assert document["manifest"]["format_version"] == 4
    assert "perceiver.weights" in run("info", tiny_bundle, "--verify").stdout
    quick = json.loads(run("info", tiny_bundle, "--no-verify", "--json").stdout)
    assert quick == document | {"verified": False}

    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_bundle, damaged)
    graph = damaged / document["manifest"]["vision"]["graph"]["path"]
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    result = run("info", damaged)
    assert result.returncode == 1
    assert graph.name in one_line(result)


def test_info_cuts_nothing_off_in_a_narrow_terminal(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "40")
    told = run("info", tiny_bundle).stdout
    rows = [line.split("│")[1:3] for line in told.splitlines() if line.count("│") == 5]
    assert "perceiver.weights" in "".join(name.strip() for name, _ in rows)
    assert "\N{HORIZONTAL ELLIPSIS}" not in told


def test_info_tells_how_long_an_answer_takes_at_most(
    tiny_bundle: Path, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert json.loads(run("info", tiny_bundle, "--json").stdout)["longest_answer"] is None
    assert "`edge-et autotune` measures it" in run("info", tiny_bundle).stdout
    speed = ModelSpeed(prompt_tokens=100, prompt_seconds=1.0, token_seconds=0.5)
    write_profile(load_bundle(tiny_bundle), perceiver_speed=speed)
    told = json.loads(run("info", tiny_bundle, "--image", picture, "--json").stdout)
    found = told["longest_answer"]
    assert found["picture_s"] == told["image"]["seconds"]
    parts = [found[f"{part}_s"] for part in ("picture", "hint", "extract", "think", "answer")]
    assert found["seconds"] == pytest.approx(sum(parts))
    assert found["extract_s"] > 24 * 0.1
    behind = json.loads(run("info", tiny_bundle, "--json").stdout)["longest_answer"]
    assert behind["picture_s"] is None
    text = " ".join(run("info", tiny_bundle).stdout.split())
    assert f"about {behind['seconds']:.1f} s on this machine, once the picture is read" in text
    assert f"the extraction {behind['extract_s']:.1f} s" in text


def test_a_doctor_looks_at_everything(tiny_bundle: Path, tmp_path: Path):
    result = run("doctor", tiny_bundle)
    assert result.returncode == 0, result.stderr
    lines = [line for line in result.stdout.splitlines()[:-1] if not line.startswith(" ")]
    told = dict(line.split(":", 1) for line in lines)
    assert [name for name in told if not name.startswith("package.")] == [
        *("versions", "processor", "onnxruntime"),
        *(f"engine.{engine.name}" for engine in installed_engines()),
        *("heat", "bundle", "threads", "memory", "files", "profile", "disk"),
        *("engine_use.perceiver", "answer"),
    ]
    assert "onnxruntime" in told["versions"]
    assert "every byte as it should be" in told["files"]
    assert result.stdout.splitlines()[-1].endswith("0 errors")
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_bundle, damaged)
    weights = damaged / "perceiver.gguf"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    result = run("doctor", damaged)
    assert result.returncode == 1
    assert result.stdout.startswith("versions:")
    assert "perceiver.gguf has SHA-256" in result.stdout
    assert result.stdout.endswith(", 1 error\n")


def test_a_doctor_tells_programs_one_document(tiny_bundle: Path, tmp_path: Path):
    for folder, status, code in ((tiny_bundle, ("ok", "warning"), 0), (tmp_path, ("error",), 1)):
        result = run("doctor", folder, "--json")
        assert result.returncode == code, result.stderr
        document = json.loads(result.stdout)
        assert list(document) == ["format", "format_version", "status", "checks"]
        assert (document["format"], document["format_version"]) == ("edge-et-doctor", 1)
        assert document["status"] in status
        for check in document["checks"]:
            assert list(check) == ["check", "status", "summary", "advice", "figures"]
    assert document["checks"][-1]["check"] == "bundle"
    assert run("doctor", "--unknown").returncode == 2


def test_a_doctor_finds_the_installed_mini_sound():
    result = run("doctor", "--json")
    assert result.returncode == 0, result.stdout
    checks = {check["check"]: check for check in json.loads(result.stdout)["checks"]}
    assert {"answers.tower", "answers.perceiver", "answer"} <= set(checks)
    assert [name for name, check in checks.items() if check["status"] == "error"] == []
    assert checks["answers.tower"]["figures"]["cosine"] > 0.99
    assert checks["answer"]["figures"]["text"] == "red"


def test_a_doctor_prepares_what_loads_use_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if len(installed_engines()) < 2:
        pytest.skip("only one engine is installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    build_bundle(tmp_path / "bundle")

    def use() -> dict[str, str]:
        (told,) = json.loads(run("info", tmp_path / "bundle", "--json").stdout)["engines"]
        return told

    before = use()
    assert (before["role"], before["engine"]) == ("perceiver", "llama")
    assert "`edge-et doctor`" in before["why"]
    assert not (tmp_path / "caches").exists()
    told = run("doctor", tmp_path / "bundle").stdout
    assert "prebuilt (ik-llama-cpp-python 0.1.5), weights as stored" in told
    assert f"kept in {tmp_path / 'caches' / 'edge-et' / 'weights'};" in told
    after = use()
    assert (after["engine"], after["weights"]) == ("prebuilt", "as stored")
    shown = run("info", tmp_path / "bundle").stdout
    assert f"The perceiver here: prebuilt ({after['package']}), weights as stored" in shown


def test_a_doctor_tells_of_caches_that_cannot_be_written(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    result = run("doctor", tiny_bundle)
    assert result.returncode == 0, result.stderr
    assert f"{tmp_path / 'file' / 'edge-et' / 'weights'} cannot be written" in result.stdout


def test_a_reader_that_leaves_is_no_error_message(tiny_bundle: Path, picture: Path):
    command = f'"{sys.executable}" -m edge_et info "{tiny_bundle}" --json | true'
    result = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert result.stderr == ""


def run_instead_of_info(body: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `edge-et info`, whose work is replaced by some lines of code."""
    code = (
        "import os, signal, sys; from edge_et.cli import main; from edge_et.cli.app import app\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def replaced(**options):\n"
        f"{textwrap.indent(textwrap.dedent(body), '    ')}\n"
        "app.commands['info'].callback = replaced\n"
        "sys.argv = ['edge-et', 'info']; main()"
    )
    options = {"stdout": subprocess.PIPE, **options}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "replaced.py").write_text(code)
        command = [sys.executable, "-m", "replaced"]
        return subprocess.run(command, stderr=subprocess.PIPE, text=True, cwd=folder, **options)


@pytest.mark.parametrize(
    "body",
    [
        "raise KeyboardInterrupt",
        # As modules do that are interrupted while they make a dataclass.
        "exec('raise KeyboardInterrupt')",
        # As native modules do that are interrupted while they are imported.
        """
        try:
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
        except KeyboardInterrupt:
            raise ImportError("initialization failed") from None
        """,
        # As what calls back from native code does.
        """
        try:
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
        except KeyboardInterrupt:
            pass
        """,
    ],
)
def test_an_interrupt_is_status_130(body: str):
    result = run_instead_of_info(body)
    assert result.returncode == 130
    assert result.stderr.split() == ["edge-et:", "interrupted"]


def test_a_closed_stdout_is_told(tiny_bundle: Path):
    command = [sys.executable, "-m", "edge_et", "info", str(tiny_bundle)]
    result = subprocess.run(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=functools.partial(os.close, 1)
    )
    assert result.returncode == 1
    assert result.stderr.startswith("edge-et: stdout is closed")
    assert result.stderr.count("\n") == 1


def test_errors_do_not_go_to_stdout_where_stderr_is_closed():
    command = [sys.executable, "-m", "edge_et", "info", "nothing-of-that-name"]
    result = subprocess.run(
        command, stdout=subprocess.PIPE, preexec_fn=functools.partial(os.close, 2)
    )
    assert (result.returncode, result.stdout) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("letters", [1, 100_000])
def test_a_full_stdout_is_one_line(letters: int):
    with open("/dev/full", "w") as full:
        result = run_instead_of_info(f"print('x' * {letters})", stdout=full)
    assert result.returncode == 1
    assert result.stderr == "edge-et: No space left on device\n"


def test_letters_that_a_terminal_lacks_get_their_code():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = run_instead_of_info("print('na\\u00efve')", env=environment)
    assert (result.returncode, result.stdout) == (0, "na\\xefve\n")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("open('none/of/that/name')", "edge-et: none/of/that/name: No such file or directory"),
        ("raise MemoryError", "edge-et: there is not enough memory"),
    ],
)
def test_what_the_machine_refuses_is_one_line(body: str, told: str):
    result = run_instead_of_info(body)
    assert result.returncode == 1
    assert one_line(result) == told


@pytest.mark.parametrize(
    ("body", "told"), [("{}['key']", "KeyError: 'key'"), ("raise EOFError('end')", "EOFError: end")]
)
def test_a_fault_of_our_own_says_so_and_where_its_traceback_is(
    tmp_path: Path, body: str, told: str
):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    result = run_instead_of_info(body, env=environment)
    assert result.returncode == 1
    line = result.stderr.strip()
    assert line.startswith(f"edge-et: {told}: this is a fault of edge-et")
    (report,) = tmp_path.iterdir()
    assert line.endswith(str(report))
    assert "Traceback" in report.read_text()
