"""Whether what docs/promises.md promises has the tests that it names."""

import ast
import re

import pytest
from tiny.places import ROOT

ROWS = [
    line.split("|")[1:-1]
    for line in (ROOT / "docs" / "promises.md").read_text().splitlines()
    if line.startswith("| **")
]
PROMISES = ("Offline", "Never empty", "Reuse equals fresh", "Whole or not at all", "Text is text")
PROMISES += ("Bounded memory", "Any thread", "A forked child", "A program ends")


def test_every_promise_is_there() -> None:
    assert {row[0].split("**")[1].rstrip(".") for row in ROWS} >= set(PROMISES)


@pytest.mark.parametrize("row", ROWS, ids=[row[0].split("**")[1].rstrip(".") for row in ROWS])
def test_a_promise_names_tests_that_exist(row: list[str]) -> None:
    named = re.findall(r"`(tests/\S+\.py):(test_\w+)`(\*?)", row[2])
    assert named
    for path, name, star in named:
        functions = {
            node.name: node
            for node in ast.walk(ast.parse((ROOT / path).read_text()))
            if isinstance(node, ast.FunctionDef)
        }
        assert name in functions, f"{path} has no {name}"
        marks = (ROOT / path).read_text()
        assert bool(star) <= ("slow" in marks), f"{path} is run by make test: no star"
    assert any(not star for _, _, star in named), "nothing of it is run by make test"
