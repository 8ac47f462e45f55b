import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny.children import die
from tiny.places import ROOT

from edge_et.bundle import check_gguf
from edge_et.errors import ModelFileError
from edge_et.export.child_process import in_child
from edge_et.export.errors import NativeModelError


@pytest.fixture(autouse=True)
def children_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))


def test_a_child_returns_or_raises_what_the_function_does(tmp_path: Path) -> None:
    assert in_child("a sum", sum, [1, 2], start=3) == 6
    with pytest.raises(ModelFileError, match="no such file") as caught:
        in_child("a file", check_gguf, tmp_path / "none")
    assert caught.value.path == tmp_path / "none"


def test_a_child_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    children = []

    class Watched(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            children.append(self)

    monkeypatch.setattr(subprocess, "Popen", Watched)
    assert in_child("a sum", sum, [1, 2]) == 3
    assert [child.returncode for child in children] == [0]


def test_a_child_that_dies_is_an_error_that_names_the_file() -> None:
    with pytest.raises(NativeModelError, match=r"a\.gguf made llama\.cpp end .*signal 6"):
        in_child("a.gguf", die)
    with pytest.raises(NativeModelError, match=r"status 3"):
        in_child("a.gguf", os._exit, 3)


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    told = tmp_path / "told"
    code = (
        "import sys; from pathlib import Path; from tiny.children import wait;"
        "from edge_et.export.child_process import in_child; in_child('x', wait, Path(sys.argv[1]))"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(told)]) as parent:
        until(told.exists)
        parent.send_signal(signal.SIGKILL)
    child = int(told.read_text())
    until(lambda: not is_running(child))


def until(holds: Callable[[], bool]) -> None:
    for _ in range(500):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("it never happened")


def is_running(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
