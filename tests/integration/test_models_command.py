"""`edge-et models`, as a program: the catalogue, with neither tools nor network."""

import json
import subprocess
import sys
from io import StringIO

import pytest
from rich.console import Console

from edge_et.cli.models import print_table
from edge_et.export.catalogue import ENTRIES

# As without the extra `export`; and nothing heavy is wanted of what is there.
RUN = """
import sys
absent = ("torch", "transformers", "huggingface_hub", "safetensors", "onnx", "onnxscript", "gguf")
sys.modules.update(dict.fromkeys((*absent, "onnxruntime", "llama_cpp", "numpy")))
from edge_et.cli import main
main()
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN, "models", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_pipe_gets_a_plain_table() -> None:
    done = run()
    assert done.returncode == 0, done.stderr
    head, *rows = (line.split("\t") for line in done.stdout.splitlines())
    assert head == ["name", "memory", "bundle", "download", "licence", "good at"]
    assert [row[0] for row in rows] == [entry.name for entry in ENTRIES]
    assert all(len(row) == len(head) for row in rows)
    assert done.stdout.isascii()
    assert "has run none of these weights" in done.stderr


def test_one_document() -> None:
    done = run("--json")
    document = json.loads(done.stdout)
    assert "has run none of these weights" in document["note"]
    assert done.stderr == ""
    models = {model["name"]: model for model in document["models"]}
    assert list(models) == [entry.name for entry in ENTRIES]
    pair = models["paper-0.6b"]
    assert pair["parts"]["reasoner"] == {
        "place": "hf:Qwen/Qwen3-1.7B",
        "license": "apache-2.0",
        "url": "https://huggingface.co/Qwen/Qwen3-1.7B",
    }
    assert pair["command"] == "edge-et build paper-0.6b"
    assert all(figure["source"].startswith("https://") for figure in pair["published"])
    assert json.loads(run("paper-0.6b", "--json").stdout)["model"] == pair


def test_the_details_of_one_with_the_command_that_builds_it() -> None:
    done = run("paper-1.7b")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "build it: edge-et build paper-1.7b" in lines
    for told in (
        "hf:markendo/llava-extract-qwen3-1.7B",
        "hf:Qwen/Qwen3-4B",
        "52.6 %",
        "--max-tiles",
    ):
        assert told in done.stdout
    assert "--accept-licence" in done.stdout
    assert "--accept-licence" not in run("smolvlm2-256m").stdout


def test_an_unknown_name_is_an_error_in_one_line() -> None:
    done = run("smolvlm2-265m")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "Did you mean smolvlm2-256m?" in line


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_terminal_of_any_width_shows_whole_names(width: int) -> None:
    screen = StringIO()
    print_table(Console(file=screen, width=width), ENTRIES)
    lines = screen.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    for entry in ENTRIES:
        (line,) = (line for line in lines if line.split()[:1] == [entry.name])
        assert f"{entry.memory_bytes / 1e9:.1f} GB" in line
