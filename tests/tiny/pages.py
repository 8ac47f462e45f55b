"""Python on the pages of the documentation: examples that run in order, and whole programs."""

import re
from pathlib import Path

from tiny.places import ROOT

EMBEDDING = ROOT / "docs" / "embedding.md"

PROGRAMS = {"server_fastapi.py", "server_flask.py", "camera.py"}
"""What tests/integration/test_embedding_programs.py runs."""

# Threads of llama.cpp wait for one another: on a busy machine two take many times as long as one.
ON_ONE_CPU = """
import os, sys
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
"""


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language; an empty one means blocks without."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)


def name_of_program(block: str) -> str | None:
    """Return the name of a block that is one of `PROGRAMS`, None for every other block."""
    name = block.partition("\n")[0].removeprefix("# ")
    return name if name in PROGRAMS else None


def examples(page: Path) -> list[str]:
    """Return the blocks that run one after the other, in one process."""
    return [block for block in blocks(page, "python") if name_of_program(block) is None]


def programs(page: Path) -> dict[str, str]:
    """Return the text of the programs, by name."""
    named = [(name, block) for block in blocks(page, "python") if (name := name_of_program(block))]
    assert len(dict(named)) == len(named), "two programs have one name"
    return dict(named)
