"""`load(max_memory_bytes=)` over the mini: what a process takes, in a control group too."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from tiny.engine import about_llama_cpp
from tiny.limited_memory import NoGroupError, memory_group, run_alone, run_in_group
from tiny.pages import blocks
from tiny.places import ROOT

import edge_et
from edge_et.errors import MemoryBudgetError

LIMIT = 320_000_000
# The second one, which both stages read, fills the context nearly.
QUESTIONS = ("What color is the circle?", "What shape is there?" + 40 * " It is on light ground.")

# Whoever is limited is a program of its own: this one holds torch and what other tests left.
PROGRAM = """
import json, sys
from pathlib import Path
import edge_et
limit, picture, questions = json.loads(sys.argv[1])
with edge_et.load(engine="llama", threads=1, use_profile=False, max_memory_bytes=limit) as pipe:
    answers = [pipe.answer(picture, question) for question in questions]
    plan = pipe.memory_plan
status = Path("/proc/self/status").read_text()
print(json.dumps({
    "texts": [[answer.extraction, answer.reasoning, answer.text] for answer in answers],
    "peak_bytes": int(status.split("VmHWM:")[1].split()[0]) * 1024,
    "planned_bytes": plan.peak_bytes,
    "keeps_tower": plan.keeps_tower,
}))
"""

pytestmark = about_llama_cpp


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a program told of itself."""

    texts: list[list[str]]
    peak_bytes: int
    planned_bytes: int
    keeps_tower: bool


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "circle.png"
    picture = Image.new("RGB", (224, 224), (236, 236, 240))
    ImageDraw.Draw(picture).ellipse((50, 50, 174, 174), fill=(214, 40, 40))
    picture.save(path)
    return path


@pytest.fixture(scope="module")
def limited(picture: Path) -> Outcome:
    """Two questions in a control group of 320 MB without swap, or beside one if there is none."""
    argument = json.dumps([LIMIT, str(picture), QUESTIONS])
    try:
        with memory_group(LIMIT) as group:
            result = run_in_group(group, PROGRAM, argument)
    except NoGroupError:
        result = run_alone(PROGRAM, argument)
    assert result.returncode == 0, result.stderr
    return outcome(result.stdout)


def outcome(text: str) -> Outcome:
    told: dict[str, Any] = json.loads(text)
    return Outcome(**told)


def test_the_mini_answers_in_a_control_group_of_320_mb(picture: Path, limited: Outcome) -> None:
    try:
        with memory_group(LIMIT):
            pass
    except NoGroupError as err:
        pytest.skip(str(err))
    assert all(text for _, _, text in limited.texts)


def test_the_peak_is_that_of_the_plan(limited: Outcome) -> None:
    assert not limited.keeps_tower
    assert limited.peak_bytes == pytest.approx(limited.planned_bytes, rel=0.05)
    assert limited.planned_bytes <= LIMIT


@pytest.mark.slow
def test_the_peak_is_below_the_plan_where_everything_stays_open(picture: Path) -> None:
    told = run_alone(PROGRAM, json.dumps([2**31, str(picture), QUESTIONS]))
    found = outcome(told.stdout)
    assert found.keeps_tower
    assert 0.9 * found.planned_bytes <= found.peak_bytes <= found.planned_bytes


def test_a_limit_changes_no_word(picture: Path, limited: Outcome) -> None:
    load = {"engine": "llama", "threads": 1, "use_profile": False, "convert_weights": False}
    with edge_et.load(**load) as pipe:  # type: ignore[arg-type]
        answers = [pipe.answer(picture, question) for question in QUESTIONS]
    assert limited.texts == [
        [answer.extraction, answer.reasoning, answer.text] for answer in answers
    ]


def test_what_does_not_fit_is_refused_before_anything_is_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened: list[object] = []
    for place in ("edge_et.llm.llama.LlamaModel", "edge_et.image.vision_tower.VisionTower"):
        monkeypatch.setattr(f"{place}.__init__", lambda self, *_, **__: opened.append(self))
    with pytest.raises(MemoryBudgetError, match="MB at least") as refused:
        edge_et.load(max_memory_bytes=1_000_000)
    assert opened == []
    assert sum(refused.value.parts.values()) >= refused.value.needed_bytes > 1_000_000


def edge_et_prints(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own: this one holds what other tests left."""
    command = [sys.executable, "-m", "edge_et", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_info_tells_the_plan_to_people_and_to_programs() -> None:
    asked = ("info", "--no-verify", "--max-memory", "2GB")
    plan = json.loads(edge_et_prints(*asked, "--json").stdout)["memory"]
    assert plan["limit_bytes"] == 2 * 10**9
    assert plan["keeps_tower"]
    assert 0 < plan["peak_bytes"] <= sum(plan["parts"].values()) + plan["image_cache_bytes"]
    told = " ".join(edge_et_prints(*asked).stdout.split())
    assert "MB of 2000.0 MB (process " in told
    assert "The tower stays open; weights are opened as the engine does" in told


INFO, SERVE = ("info", "--no-verify"), ("serve", "--port", "0")


@pytest.mark.parametrize(
    ("command", "given", "told"),
    [
        (INFO, "9999999999999999999TB", "expected a whole number from 1 to"),
        (INFO, "1", "MB at least .*; not all at once.*, max_memory_bytes is 0 MB: grant more"),
        (SERVE, "-5MB", "max_memory_bytes=-5000000: expected a whole number from 1 to"),
        (SERVE, "100MB", "enough for 'mini', .*weights .*, max_memory_bytes is 100 MB: grant more"),
    ],
)
def test_limits_with_which_nothing_can_be_opened_are_refused_in_a_line(
    command: tuple[str, ...], given: str, told: str
) -> None:
    result = edge_et_prints(*command, "--max-memory", given)
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert re.search(told, line), line


def test_the_example_of_the_page_tells_a_plan() -> None:
    (example,) = blocks(ROOT / "docs" / "memory.md", "python")
    result = run_alone(f"import edge_et\n{example}", "")
    assert result.returncode == 0, result.stderr
    assert "'KV caches'" in result.stdout
