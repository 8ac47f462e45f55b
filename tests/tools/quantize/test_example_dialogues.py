"""Example dialogues: which ones there are, and that they never change."""

import numpy as np

from edge_et.quantize.example_dialogues import CALIBRATION_EXAMPLES, EVALUATION_EXAMPLES, EXAMPLES


def test_examples_are_drawn_alike_each_time() -> None:
    assert EVALUATION_EXAMPLES
    assert CALIBRATION_EXAMPLES
    assert EVALUATION_EXAMPLES + CALIBRATION_EXAMPLES == EXAMPLES
    for example in EXAMPLES:
        picture = np.asarray(example.picture())
        assert picture.shape == (*example.size[::-1], 3)
        assert picture.std() > 10
        np.testing.assert_array_equal(picture, np.asarray(example.picture()))
