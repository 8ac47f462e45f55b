"""What README and docs say can be done: examples run, commands and files exist."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from PIL import Image
from tiny.pages import EMBEDDING, ON_ONE_CPU, PROGRAMS, blocks, examples, programs
from tiny.places import EXAMPLES, ROOT

from edge_et.cli.app import app

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += sorted((ROOT / "deploy").rglob("*.md"))
BATCH = ROOT / "docs" / "batch.md"
CARD = ROOT / "models" / "mini" / "README.md"
MAX_LINES = 150

RUN_EXAMPLES = f"{ON_ONE_CPU}exec(compile(sys.stdin.read(), 'examples', 'exec'))"
RUN_COMMANDS = f"""{ON_ONE_CPU}
import json
from edge_et.cli import main

for sys.argv in json.load(sys.stdin):
    try:
        main()
    except SystemExit as end:
        assert not end.code, sys.argv
    print(end="\\0")
"""


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def run(code: str, *, folder: Path, given: str) -> str:
    # A name that has changed works and warns; no example uses one.
    command = [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", code]
    done = subprocess.run(command, input=given, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, picture in (("photo.jpg", "cat.png"), ("other.jpg", "coffee.png")):
        Image.open(EXAMPLES / picture).convert("RGB").save(tmp_path / name)
    return tmp_path


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("page", [README, EMBEDDING], ids=name_of)
def test_examples_run_in_order(page: Path, folder: Path) -> None:
    shown = examples(page)
    assert len(shown) >= 2
    assert "cat" in run(RUN_EXAMPLES, folder=folder, given="\n".join(shown))


@pytest.mark.slow
def test_examples_of_batches_run(folder: Path) -> None:
    (folder / "photos").mkdir()
    (folder / "photo.jpg").rename(folder / "photos" / "photo.jpg")
    (folder / "other.jpg").rename(folder / "photo.jpg")
    printed = run(RUN_EXAMPLES, folder=folder, given="\n".join(examples(BATCH)))
    assert printed.splitlines()[-2:] == ["1 0", "False None"]


def test_whole_programs_stand_on_one_page() -> None:
    assert set(programs(EMBEDDING)) == PROGRAMS
    assert programs(README) == {}


def shown_commands(page: Path) -> Iterator[tuple[str, str]]:
    """Yield the commands that a page shows with their output, and this."""
    for block in blocks(page, "console"):
        for shown in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = shown.partition("\n")
            yield command, output


def test_commands_print_what_is_shown() -> None:
    readme, embedding = list(shown_commands(README)), list(shown_commands(EMBEDDING))
    lines = [shlex.split(command) for command, _ in readme + embedding]
    assert {program for program, *_ in lines} == {"edge-et"}
    *printed, document, _ = run(RUN_COMMANDS, folder=ROOT, given=json.dumps(lines)).split("\0")
    assert printed == [output for _, output in readme]
    (shown,) = blocks(EMBEDDING, "json")
    assert without_seconds(document) == without_seconds(shown)


def without_seconds(document: str) -> Any:
    values = json.loads(document)
    for usage in (*values["usage"].values(), *(one["usage"] for one in values["extractions"])):
        del usage["seconds"]
    return values


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of every command of edge-et that a page names, in a block or in a line."""
    text = page.read_text()
    fenced = "".join(re.findall(r"^```(?:console)?\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    lines = fenced.replace("\\\n", " ").splitlines()
    lines += re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M))
    for line in lines:
        line = " ".join(line.removeprefix("$ ").split())
        if line == "edge-et" or line.startswith("edge-et "):
            yield shlex.split(line, comments=True)[1:]


def check_command(words: list[str]) -> None:
    command: click.Command = app
    rest = list(words)
    while isinstance(command, click.Group) and rest and rest[0] in command.commands:
        command = command.commands[rest.pop(0)]
    if isinstance(command, click.Group) and not command.invoke_without_command:
        assert not rest or rest[0] in {"...", "--help", "--version"}, f"no command {rest[0]}"
    known = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    for word in rest:
        if word.startswith("--"):
            flag = word.partition("=")[0]
            assert flag in known | {"--help", "--version"}, f"{command.name} has no {flag}"


@pytest.mark.parametrize("page", [*PAGES, CARD], ids=name_of)
def test_commands_and_their_options_exist(page: Path) -> None:
    for words in commands(page):
        check_command(words)


def test_commands_that_do_not_exist_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```\nedge-et tune --forget\n```\n`edge-et answer a.jpg --speed 3`\n")
    wrong = list(commands(page))
    assert len(wrong) == 2
    for words in wrong:
        with pytest.raises(AssertionError):
            check_command(words)


def anchors(page: Path) -> set[str]:
    """Return what GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("page", [*PAGES, CARD], ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize(
    "page",
    [README, EMBEDDING, ROOT / "CONTRIBUTING.md", ROOT / "docs" / "architecture.md"],
    ids=name_of,
)
def test_files_that_are_named_exist(page: Path) -> None:
    places = "|".join(sorted(path.name for path in ROOT.iterdir() if path.is_dir()))
    for named in re.findall(rf"(?<![\w./-])(?:{places})/[\w./-]*\w\.\w+", page.read_text()):
        assert "NAME" in named or (ROOT / named).exists(), named  # which a reader chooses


def test_the_readme_says_how_to_leave_the_history_behind() -> None:
    assert "git clone --depth 1" in README.read_text()
