"""The ground truth of scenes describes them, and its records ask what the mini is asked."""

from typing import Any

import msgspec
import pytest
from PIL import Image

from edge_et.tuning.data.describers import RowError
from edge_et.tuning.data.extraction_records import EXTRACT_PROMPT
from edge_et.tuning.data.instructions import Instruction, Pair
from edge_et.tuning.mini import recipe
from edge_et.tuning.mini.facts import PrintFacts
from edge_et.tuning.mini.truth_describer import TruthDescriber

PICTURE = Image.new("RGB", (8, 8))


def row(facts: Any) -> Instruction:
    pairs = (Pair("What does the sign say?", "open"),)
    raw = None if facts is None else msgspec.Raw(msgspec.json.encode(facts))
    return Instruction(1, b"{}", "a", "a.png", pairs, raw)


def test_a_scene_is_described_by_its_facts():
    text = TruthDescriber().describe(PICTURE, row(PrintFacts("sign", ("open",)))).text
    assert "open" in text


@pytest.mark.parametrize("facts", [None, {"type": "weather"}, ["open"]])
def test_a_row_without_facts_of_a_scene_is_kept_apart(facts: Any):
    with pytest.raises(RowError, match="facts"):
        TruthDescriber().describe(PICTURE, row(facts))


def test_records_ask_what_the_mini_is_asked():
    question = "What does the sign say?"
    asked = recipe.EXTRACT_PROMPT.format(image="", question=question).strip()
    assert EXTRACT_PROMPT.format(question=question) == asked
