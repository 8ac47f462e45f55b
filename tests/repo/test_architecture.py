"""docs/architecture.md against the tree: what it names is there."""

import ast
import re

from tiny.places import ROOT

PAGE = ROOT / "docs" / "architecture.md"
TEXT = PAGE.read_text()

# What a newcomer is to find in ten seconds.
LEAST_PLACES = 25


def section(title: str) -> str:
    return TEXT.split(f"## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of a table, the two lines of its head left out."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names(body: list[ast.stmt], prefix: str = "") -> set[str]:
    """Return what a module defines: functions, classes, their methods, and variables."""
    found = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(prefix + node.name)
        if isinstance(node, ast.ClassDef):
            found |= names(node.body, f"{node.name}.")
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        found |= {prefix + target.id for target in targets if isinstance(target, ast.Name)}
    return found


def test_every_place_is_there() -> None:
    table = rows(section("Where do I ...?"))
    assert len(table) >= LEAST_PLACES
    for task, places in table:
        named = re.findall(r"`([\w./]+\.py):([\w.]+)`", places)
        assert named, task
        for path, name in named:
            assert (ROOT / path).is_file(), f"{task}: {path}"
            assert name in names(ast.parse((ROOT / path).read_text()).body), f"{task}: {name}"


def test_the_table_of_rooms_is_the_tree() -> None:
    described = [room.strip("`") for room, *_ in rows(section("The rooms"))]
    doors = {path.parent.name for path in (ROOT / "edge_et").glob("*/__init__.py")}
    assert len(described) == len(set(described))
    assert {*described, "errors"} == doors


def test_the_rooms_of_tools_are_the_tree() -> None:
    text = section("The tools, from left to right")
    for tool in ("export", "tuning", "benchmarks"):
        (listed,) = re.findall(rf"\(`{tool}/`: (.*?)\)", text, re.DOTALL)
        doors = {path.parent.name for path in (ROOT / tool).glob("*/__init__.py")}
        assert set(re.findall(r"`(\w+)`", listed)) >= doors, tool


def test_recipes_name_what_is_there() -> None:
    """A name in backquotes behind a file in the same step, and every file, exists."""
    known = {
        name.rpartition(".")[2]
        for folder in ("edge_et", "export", "tuning", "benchmarks", "tests")
        for path in (ROOT / folder).rglob("*.py")
        for name in names(ast.parse(path.read_text()).body)
    }
    recipes = section("Recipes")
    for named in re.findall(r"`(?:\w*\.)?(\w*[A-Z_]\w*)`", recipes):
        assert named in known, named
    for path in re.findall(r"[\w/]+/[\w.]+\.(?:py|md)", recipes):
        assert "NAME" in path or (ROOT / path).is_file(), path
