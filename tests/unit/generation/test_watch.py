import math

import numpy as np
import pytest

from edge_et.bundle import Sampling
from edge_et.errors import DecodeError
from edge_et.generation import Watch, greedy, new_sampler
from edge_et.generation.sampling import choose
from edge_et.generation.watch import look

PROBABILITIES = np.array([0.2, 0.5, 0.3])
LOGITS = np.log(PROBABILITIES).astype(np.float32) + np.float32(7)
NEVER = np.float32(-np.inf)


@pytest.mark.parametrize("token", [0, 1, 2])
def test_a_token_is_as_probable_as_the_softmax_says(token: int) -> None:
    logprob, margin = look(LOGITS, token)
    assert math.exp(logprob) == pytest.approx(PROBABILITIES[token], rel=1e-6)
    assert margin == pytest.approx(0.5 - 0.3, rel=1e-5)


def test_what_may_not_come_has_no_probability() -> None:
    logits = np.array([NEVER, 2.0, NEVER, 2.0 + math.log(3)], np.float32)
    logprob, margin = look(logits, 1)
    assert (math.exp(logprob), margin) == pytest.approx((0.25, 0.5), rel=1e-6)
    assert look(logits, 0)[0] == -math.inf
    assert look(np.array([NEVER, 5.0], np.float32), 1) == (0.0, 1.0)


def test_a_vocabulary_of_usual_size_sums_to_one() -> None:
    logits = np.random.default_rng(0).normal(0, 4, 50_000).astype(np.float32)
    exact = logits.astype(np.float64)
    exact -= np.log(np.exp(exact).sum())
    for token in (0, int(np.argmax(logits)), int(np.argmin(logits))):
        assert look(logits, token)[0] == pytest.approx(exact[token], abs=1e-5)
    first, second = np.exp(np.sort(exact)[:-3:-1])
    assert look(logits, 0)[1] == pytest.approx(first - second, abs=1e-6)


@pytest.mark.parametrize("damaged", [np.nan, np.inf])
def test_what_is_no_number_is_an_error_and_no_probability(damaged: float) -> None:
    logits = np.array([0.0, damaged, 1.0], np.float32)
    with pytest.raises(DecodeError, match="not finite"):
        Watch([0]).over(greedy)(logits)


def test_figures_of_a_stage_are_those_of_the_tokens_that_were_taken() -> None:
    watch = Watch()
    sampler = watch.over(greedy)
    assert watch.certainties == {}
    assert sampler(LOGITS) == 1
    watch.keep("extract")
    assert choose(sampler, LOGITS, (1).__eq__) == 2  # of 0.2 and 0.3
    watch.keep("extract")
    watch.keep("extract")  # nothing was asked since: a token that had to come
    sampler(LOGITS)
    watch.keep("answer")
    found = watch.certainties["extract"]
    assert found.tokens == 2
    assert found.mean == pytest.approx(math.sqrt(0.5 * 0.6), rel=1e-5)
    assert found.least == pytest.approx(0.5, rel=1e-5)
    assert found.margin == pytest.approx(0.2, rel=1e-5)
    assert watch.certainties["answer"].tokens == 1
    assert list(watch.certainties) == ["extract", "answer"]
    assert (watch.said("extract"), watch.said("think")) == ([1, 1, 2], ())


def test_sampling_is_judged_before_any_temperature() -> None:
    watch = Watch()
    sampler = watch.over(new_sampler(Sampling(temperature=10.0, seed=1)))
    for _ in range(20):
        sampler(LOGITS)
        watch.keep("answer")
    assert watch.certainties["answer"].least == pytest.approx(0.2, rel=1e-5)


def test_a_script_is_followed_and_judged() -> None:
    watch = Watch([0, 2])
    sampler = watch.over(greedy)
    assert [sampler(LOGITS), sampler(LOGITS)] == [0, 2]
    watch.keep("answer")
    assert watch.said("answer") == [0, 2]
    found = watch.certainties["answer"]
    assert (found.tokens, found.mean) == (1, pytest.approx(0.3, rel=1e-5))
