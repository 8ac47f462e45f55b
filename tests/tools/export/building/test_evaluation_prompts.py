"""What a build compares its models on, and how much it will need."""

import random

import numpy as np
import pytest
from tiny.anyres import LLAVA, edited

from edge_et.bundle import VisionSpec
from edge_et.export.building.disk_space import ModelSize, build_bytes
from edge_et.export.building.evaluation_prompts import most_image_tokens
from edge_et.image import plan_image
from edge_et.quantize.example_dialogues import CALIBRATION_EXAMPLES, EVALUATION_EXAMPLES, EXAMPLES


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


def test_disk_space_is_that_of_the_largest_step() -> None:
    perceiver = ModelSize(parameters=100, tower_parameters=50)
    reasoner = ModelSize(parameters=300, tower_parameters=0)
    # Float tower beside float tower; then F16 beside what is kept.
    assert build_bytes([perceiver], 2.0, 4.0) == 200 + 200 + 200
    assert build_bytes([perceiver, reasoner], 0.5, 1.0) == 50 + 50 + 150 + 600


def test_examples_are_drawn_alike_each_time() -> None:
    assert EVALUATION_EXAMPLES
    assert CALIBRATION_EXAMPLES
    assert EVALUATION_EXAMPLES + CALIBRATION_EXAMPLES == EXAMPLES
    for example in EXAMPLES:
        picture = np.asarray(example.picture())
        assert picture.shape == (*example.size[::-1], 3)
        assert picture.std() > 10
        np.testing.assert_array_equal(picture, np.asarray(example.picture()))
