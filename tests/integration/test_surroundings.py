"""What an answer does to the machine around it: nothing."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny.engine import ON_PREBUILT
from tiny.watched import Watched, bare_environment

ANSWER = """
import edge_et
with edge_et.load({bundle!r}) as pipe:
    print(pipe.answer({picture!r}, "What is this?").usage["extract"].generated_tokens)
"""

# ONNX Runtime's telemetry looked its collector up 9 s after the import.
SHORT_S, LONG_S = 20.0, 60.0

NO_STRACE = "strace is missing, or must not look at processes"


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, size=(40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def watched(
    tiny_bundle: Path, picture: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    """A process that was asked once. It lives on while the other tests of this file run."""
    code = ANSWER.format(bundle=str(tiny_bundle), picture=str(picture))
    process = Watched(code, tmp_path_factory.mktemp("watched"))
    yield process
    process.end()


def kept(watched: Watched) -> list[str]:
    """Return the files that were left, but what was found of an engine that is alone."""
    found = watched.kept("home", "work", "tmp")
    known = "home/.cache/edge-et/weights/" if ON_PREBUILT else "nothing"
    return [path for path in found if not path.startswith(known)]


def test_an_answer_leaves_no_file(watched: Watched) -> None:
    assert int(watched.output()) > 0
    assert kept(watched) == []


def test_what_a_process_does_is_seen(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    code = f"""
import os, pathlib, socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
    other.connect(("127.0.0.1", 53))  # sends nothing
socket.socket(socket.AF_INET6).close()
socket.socket(socket.AF_UNIX).close()
pathlib.Path("inside").write_text("")
os.mkdir({str(outside)!r})
with open({str(outside / "file")!r}, "w"):
    pass
os.rename({str(outside / "file")!r}, {str(outside / "moved")!r})
pathlib.Path({str(outside / "moved")!r}).read_text()
pathlib.Path.home().joinpath("kept").touch()
"""
    process = Watched(code, tmp_path / "watched")
    process.live(0)
    process.end()
    assert process.kept("home", "work", "tmp") == ["home/kept", "work/inside"]
    if not process.is_traced:
        pytest.skip(NO_STRACE)
    assert len(process.sockets()) == 2
    assert len(process.connections()) == 1
    made, written, moved = process.written_outside()
    assert "mkdir" in made
    assert "O_CREAT" in written
    assert "rename" in moved


HOMELESS = """
import os, pwd, sys
def unknown(_):
    raise KeyError("getpwuid(): uid not found: 12345")
pwd.getpwuid = unknown
del os.environ["HOME"]
from edge_et.cli import main
sys.argv = {arguments!r}
main()
"""


def run_homeless(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a command as a user that the system does not know, as `docker run --user` does."""
    code = HOMELESS.format(arguments=["edge-et", *map(str, arguments)])
    environment = bare_environment(folder)
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_a_user_without_a_home_is_answered(
    tiny_bundle: Path, picture: Path, tmp_path: Path
) -> None:
    question = (picture, "What is this?", "--model", tiny_bundle)
    done = run_homeless(tmp_path, "answer", *question, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["text"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["autotune", "bench --synthetic smollm2-135m+siglip-base"])
def test_who_needs_a_folder_for_caches_is_told_what_to_set(tmp_path: Path, command: str) -> None:
    done = run_homeless(tmp_path, *command.split())
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "set XDG_CACHE_HOME" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds", [SHORT_S, pytest.param(LONG_S, marks=pytest.mark.slow)])
def test_an_answer_asks_for_no_network_and_writes_nothing(watched: Watched, seconds: float) -> None:
    if not watched.is_traced:
        pytest.skip(NO_STRACE)
    watched.live(seconds)
    assert kept(watched) == []
    assert watched.sockets() == []
    assert watched.written_outside() == []
