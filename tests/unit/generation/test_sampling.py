import numpy as np
import pytest

from edge_et.bundle import Sampling
from edge_et.errors import DecodeError
from edge_et.generation import greedy, new_sampler
from edge_et.generation.sampling import choose, nucleus

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


def test_top_k_keeps_the_most_probable() -> None:
    numbers = np.linspace(0, 0.999, 50)
    assert {nucleus(LOGITS, 1.0, 1.0, number, top_k=1) for number in numbers} == {0}
    assert {nucleus(LOGITS, 1.0, 1.0, number, top_k=3) for number in numbers} == {0, 1, 2}
    assert {nucleus(LOGITS, 1.0, 1.0, number, top_k=9) for number in numbers} == {0, 1, 2, 3}


def test_top_p_is_a_part_of_what_top_k_left() -> None:
    """Of all tokens the first has 0.5, of the first two 0.625: temperature, top_k, then top_p."""
    numbers = np.linspace(0, 0.999, 50)
    assert {nucleus(LOGITS, 1.0, 0.6, number) for number in numbers} == {0, 1}
    assert {nucleus(LOGITS, 1.0, 0.6, number, top_k=2) for number in numbers} == {0}


def test_the_temperature_comes_first() -> None:
    """At temperature 2 the first of two has 0.56, not 0.625."""
    numbers = np.linspace(0, 0.999, 50)
    assert {nucleus(LOGITS, 2.0, 0.6, number, top_k=2) for number in numbers} == {0, 1}


def test_of_equals_top_k_keeps_the_smallest_ids() -> None:
    logits = np.array([0, 5, 1, 5, 5], np.float32)
    numbers = np.linspace(0, 0.999, 50)
    assert {nucleus(logits, 1.0, 1.0, number, top_k=2) for number in numbers} == {1, 3}


def test_top_k_of_all_changes_nothing() -> None:
    logits = np.random.default_rng(0).normal(0, 3, 500).astype(np.float32)
    for number in np.linspace(0, 0.999, 20):
        expected = nucleus(logits, 0.8, 0.9, number)
        assert nucleus(logits, 0.8, 0.9, number, top_k=500) == expected
        assert nucleus(logits, 0.8, 0.9, number, top_k=499) == expected


def test_the_sampler_knows_top_k() -> None:
    sampler = new_sampler(Sampling(temperature=5.0, top_k=2, seed=0))
    assert {sampler(LOGITS) for _ in range(200)} == {0, 1}


def test_a_refused_token_is_struck_out_and_the_logits_stay_as_they_were() -> None:
    logits = LOGITS.copy()
    assert choose(greedy, logits, lambda token: token in (0, 1)) == 2
    assert np.array_equal(logits, LOGITS)
    assert choose(greedy, logits) == 0


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=2.0, top_k=2, seed=1)])
def test_the_last_token_that_is_not_refused_is_found(sampling: Sampling) -> None:
    assert choose(new_sampler(sampling), LOGITS, lambda token: token != 3) == 3


def test_no_token_left_is_an_error() -> None:
    with pytest.raises(DecodeError, match="no token is left"):
        choose(greedy, LOGITS, lambda token: True)
