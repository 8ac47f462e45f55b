"""What a build compares its models on, and how much it will need."""

import random

import pytest
from tiny.anyres import LLAVA, edited

from edge_et.bundle import MarkupSpec, VisionSpec
from edge_et.export.building.evaluation_prompts import most_image_tokens
from edge_et.image import plan_image

BY_EDGE = {"rule": "edge", "edge_tiles": 3, "grids": (), "whole": "last"}
MARKUP = MarkupSpec(
    tokens=("<a>", "<b>"),
    start=("<b>", "<a>", "<b>"),
    tile=("<a>", "<b>"),
    row_end=("<a>",),
    whole=("<b>",),
    end=("<a>", "<b>"),
)


@pytest.mark.parametrize(
    "spec",
    [
        LLAVA,
        edited(LLAVA, {"max_tiles": 5}),
        edited(LLAVA, {"max_tiles": 1}),
        edited(LLAVA, {"shrink_over_tiles": None}),
        edited(LLAVA, pooling=2),
        edited(LLAVA, arrangement="grid"),
        edited(LLAVA, arrangement="flat"),
        edited(LLAVA, BY_EDGE, arrangement="flat", markup=MARKUP),
        edited(LLAVA, BY_EDGE | {"max_tiles": 7}, arrangement="flat", markup=MARKUP),
    ],
)
def test_no_picture_has_more_image_tokens_than_the_bound(spec: VisionSpec) -> None:
    sizes = random.Random(1)
    counts = [
        plan_image(spec, (sizes.randint(1, 4000), sizes.randint(1, 4000))).image_tokens
        for _ in range(3000)
    ]
    bound = most_image_tokens(spec)
    assert max(counts) <= bound <= 1.05 * max(counts)
