from dataclasses import replace

import pytest

from edge_et.llm import BatchRules
from edge_et.llm.batch_rules import IN_GROUPS

FEW = BatchRules(group=1, most=15, image_group=64, image_most=256, spare=1, written=15)
RULES = [IN_GROUPS, FEW, replace(FEW, group=2, most=14)]


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("rows", [1, 9, 64, 100, 256, 1000])
def test_smaller_batches_are_still_whole_groups(rules: BatchRules, rows: int) -> None:
    small = rules.within(rows)
    assert (small.group, small.image_group) == (rules.group, rules.image_group)
    for most, group, before in (
        (small.most, small.group, rules.most),
        (small.image_most, small.image_group, rules.image_most),
    ):
        assert most % group == 0
        assert 2 * group <= most <= max(rows, 2 * group)
        assert most <= before
    assert (small.spare, small.written) == (rules.spare, rules.written)


def test_without_a_number_nothing_changes() -> None:
    assert IN_GROUPS.within(None) is IN_GROUPS
