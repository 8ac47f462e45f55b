import math

import pytest
from tiny.fakes import FakeClock

from edge_et.generation import Deadline, Throughput


def test_time_is_counted_from_the_start() -> None:
    clock = FakeClock()
    deadline = Deadline(2.0, clock)
    assert not deadline.passed()
    assert deadline.passed(reserve_s=2.0)
    clock.now_s += 1.5
    assert deadline.seconds_left() == 0.5
    assert not deadline.passed(reserve_s=0.4)
    assert deadline.passed(reserve_s=0.6)
    clock.now_s += 0.5
    assert deadline.passed()


def test_without_seconds_there_is_no_hurry() -> None:
    clock = FakeClock()
    deadline = Deadline(None, clock)
    clock.now_s += 1e9
    assert not deadline.passed(reserve_s=1e9)
    assert deadline.seconds_left() == math.inf


def test_nothing_is_needed_before_anything_was_measured() -> None:
    assert Throughput().seconds_for(100, 100) == 0


def test_a_token_is_guessed_from_positions_until_it_is_measured() -> None:
    throughput = Throughput()
    throughput.observe_prefill(10, 1.0)
    assert throughput.seconds_for(5, 2) == pytest.approx(0.5 + 2 * 0.8)
    throughput.observe_decode(0.3)
    assert throughput.seconds_for(5, 2) == pytest.approx(0.5 + 2 * 0.3)


def test_the_pace_follows_what_is_measured() -> None:
    throughput = Throughput()
    throughput.observe_decode(1.0)
    for _ in range(20):
        throughput.observe_decode(2.0)
    assert 1.9 < throughput.token_s < 2.0
