"""Arguments that are none: each is refused by an error that the command line tells in a line."""

import shutil
from pathlib import Path

import click
import pytest
from PIL import Image

from edge_et.cli.app import app
from edge_et.errors import EdgeETError

CONTENTS = {
    "empty": b"",
    "garbage": b"\0\xff garbage",
    "object.json": b'{"a": 1}',
    "list.json": b"[1, 2]",
    "latin-1.json": b'{"a": "\xff"}',
    "other.toml": b"a = 1\n",
}
PATHS = (*CONTENTS, "nothing", "a folder", "", "x" * 300, "empty/file", "\udcff", "/dev/null")
COMMANDS: dict[str, tuple[str, ...]] = {
    "answer": ("answer", "ODD", "What?", "--model", "tiny"),
    "answer --model": ("answer", "picture.png", "What?", "--model", "ODD"),
    "info": ("info", "ODD"),
    "info --image": ("info", "tiny", "--image", "ODD"),
    "bench --model": ("bench", "--model", "ODD"),
    "bench --compare": ("bench", "--compare", "ODD", "ODD"),
    "bench quality": ("bench", "quality", "tiny", "--questions", "ODD"),
    "autotune": ("autotune", "ODD", "--forget"),
    "export lora": ("export", "lora", "ODD", "ODD", "--out", "out"),
    "train run": ("train", "run", "ODD"),
    "train make-data": ("train", "make-data", "ODD", "out.jsonl", "--truth"),
}
NUMBERS = ("-1", "nan", str(2**31), str(2**63), "1" + 400 * "0")


@pytest.fixture
def folder(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a bundle, a picture, and files that are neither."""
    for name, content in CONTENTS.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "a folder").mkdir()
    shutil.copytree(tiny_bundle, tmp_path / "tiny")
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def error_of(*arguments: str) -> Exception:
    with pytest.raises((EdgeETError, click.ClickException, OSError)) as caught:
        app.main(list(arguments), prog_name="edge-et", standalone_mode=False)
    return caught.value


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_path_to_something_else_is_refused(folder: Path, command: tuple[str, ...]) -> None:
    before = sorted(folder.iterdir())
    for path in PATHS:
        err = error_of(*(path if argument == "ODD" else argument for argument in command))
        if isinstance(err, OSError):
            assert err.filename is not None, path
        else:
            assert "\n" not in str(err), path
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("option", ["--max-tiles", "--seed", "--temperature", "--threads"])
def test_a_number_out_of_range_is_refused(folder: Path, option: str) -> None:
    for number in NUMBERS:
        if (option, number) != ("--seed", NUMBERS[2]):
            error_of("answer", "picture.png", "What?", "--model", "tiny", option, number)
