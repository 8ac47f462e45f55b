"""The ground truth of rendered scenes as a describer: it makes extraction data without a model."""

from __future__ import annotations

import msgspec
from PIL import Image

from edge_et.tuning.data.describers import (
    Description,
    RowError,
    checked_description,
    rule_statements,
)
from edge_et.tuning.data.instructions import Instruction
from edge_et.tuning.mini.facts import Facts
from edge_et.tuning.mini.questions.ask import caption


class TruthDescriber:
    """Describe a scene by the facts in its row."""

    name = "ground truth"

    def describe(self, picture: Image.Image, row: Instruction) -> Description:
        """Describe one picture; see `Describer`."""
        if row.facts is None:
            raise RowError("the row has no facts; only rows of rendered scenes have")
        try:
            facts = msgspec.json.decode(row.facts, type=Facts)
        except msgspec.MsgspecError as err:
            raise RowError(f"the facts are not those of a rendered scene: {err}") from err
        return checked_description(rule_statements(row), caption(facts))
