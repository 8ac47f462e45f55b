import numpy as np
import pytest

from edge_et.bundle import Sampling
from edge_et.errors import DecodeError
from edge_et.sampling import greedy, new_sampler, nucleus

LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))


def test_greedy_takes_the_largest_and_of_equals_the_first() -> None:
    assert greedy(np.array([1.0, 3.0, 3.0], np.float32)) == 1
    assert new_sampler(Sampling())(LOGITS) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused(bad: float) -> None:
    with pytest.raises(DecodeError, match="not finite"):
        greedy(np.array([1.0, bad], np.float32))


@pytest.mark.parametrize(
    ("number", "token"), [(0.0, 0), (0.49, 0), (0.51, 1), (0.79, 1), (0.81, 2), (0.96, 3)]
)
def test_nucleus_follows_the_probabilities(number: float, token: int) -> None:
    assert nucleus(LOGITS, 1.0, 1.0, number) == token


def test_nucleus_keeps_the_fewest_tokens_that_reach_top_p() -> None:
    assert {nucleus(LOGITS, 1.0, 0.6, number) for number in np.linspace(0, 0.999, 50)} == {0, 1}
    assert {nucleus(LOGITS, 1.0, 0.01, number) for number in np.linspace(0, 0.999, 50)} == {0}


def test_temperature_sharpens_and_flattens() -> None:
    assert nucleus(LOGITS, 0.01, 1.0, 0.999) == 0
    assert nucleus(LOGITS, 10.0, 1.0, 0.999) == 3


def test_a_number_next_to_one_stays_inside() -> None:
    assert nucleus(LOGITS, 1.0, 1.0, np.nextafter(1.0, 0.0)) == 3


def test_same_seed_same_tokens() -> None:
    def draw(seed: int | None) -> list[int]:
        sampler = new_sampler(Sampling(temperature=1.0, seed=seed))
        return [sampler(LOGITS) for _ in range(50)]

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)
    assert draw(None) != draw(None)
