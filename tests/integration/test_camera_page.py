"""docs/camera.md: its program over a folder and the mini, as it stands there, and its examples."""

import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tiny.pages import blocks
from tiny.places import EXAMPLES, ROOT

PAGE = ROOT / "docs" / "camera.md"
NAME = "# watch_door.py\n"
PATIENCE_S = 120


def program() -> str:
    (found,) = (block for block in blocks(PAGE, "python") if block.startswith(NAME))
    return found


def test_the_program_tells_an_answer_and_what_is_wrong_until_it_is_interrupted(
    tmp_path: Path,
) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    shutil.copy(EXAMPLES / "cat.png", frames)
    # Programs in the background of a script inherit a SIGINT that is ignored.
    heeding = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    watching = subprocess.Popen(
        [sys.executable, "-u", "-c", heeding + program(), "frames"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    ending = threading.Timer(PATIENCE_S, watching.kill)
    ending.start()
    try:
        assert watching.stdout is not None
        told = watching.stdout.readline()
        (frames / "broken.bmp").write_bytes(b"no picture")
        wrong = watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        _, errors = watching.communicate()
    finally:
        watching.kill()
        ending.cancel()
    assert re.fullmatch(r"\d\d:\d\d:\d\d (yes|no) \d+%\n", told), told + errors
    assert "cannot decode the image" in wrong
    assert errors.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.parametrize(
    "block",
    [block for block in blocks(PAGE, "python") if not block.startswith(NAME)],
    ids=lambda block: block.strip().splitlines()[-1],
)
def test_examples_run(block: str) -> None:
    exec(compile(block, PAGE.name, "exec"), {})
