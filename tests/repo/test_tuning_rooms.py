"""Rules about the rooms of tuning: the method knows no recipe, and a recipe no personal bundle."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny.places import ROOT

TUNING = ROOT / "tuning"
# Each room, and the rooms of tuning that it must not know.
UNKNOWN = {
    "data": ("evaluation", "mini", "own", "training"),
    "training": ("data", "evaluation", "mini", "own"),
    "evaluation": ("data", "mini", "own"),
    "mini": ("own",),
    "own": (),
}


def imported(path: Path) -> Iterator[str]:
    """Yield the dotted names that a module imports, those for type checkers as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_room_has_its_rule() -> None:
    assert {path.parent.name for path in TUNING.glob("*/__init__.py")} == set(UNKNOWN)
    assert [path.name for path in TUNING.glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("room", UNKNOWN)
def test_a_room_does_not_know_the_rooms_above_it(room: str) -> None:
    above = tuple(f"edge_et.tuning.{name}." for name in UNKNOWN[room])
    for path in sorted((TUNING / room).rglob("*.py")):
        for name in imported(path):
            assert not f"{name}.".startswith(above), f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("room", UNKNOWN)
def test_a_room_says_what_it_takes_and_gives(room: str) -> None:
    said = ast.get_docstring(ast.parse((TUNING / room / "__init__.py").read_text())) or ""
    assert "In: " in said
    assert "Out: " in said
