import numpy as np

from benchmarks.capacity import climb, kept_up
from tests.benchmarks.records import records

DUE = np.arange(0, 3, 0.01)


def test_the_capacity_is_the_last_rate_before_the_first_that_is_too_much() -> None:
    tried = []

    def sustains(rate: float) -> bool:
        tried.append(rate)
        return rate not in (30, 50)

    assert climb([10, 20, 30, 40, 50], sustains) == 20
    assert tried == [10, 20, 30]
    assert climb([30, 40], sustains) == 0
    assert climb([1, 2], sustains) == 2


def test_a_server_that_answers_in_time_keeps_up_and_one_slow_moment_is_no_matter() -> None:
    took = np.full(len(DUE), 0.02)
    took[100:102] = 0.5
    assert kept_up(records(DUE, took, [0.0, 3.0]), 100)


def test_a_server_that_falls_behind_by_a_tenth_does_not_keep_up() -> None:
    assert not kept_up(records(DUE, 0.02 + 0.1 * DUE, [0.0, 3.0]), 100)


def test_one_refusal_is_too_much() -> None:
    status = np.full(len(DUE), 200, np.int16)
    status[5] = 503
    assert not kept_up(records(DUE, np.full(len(DUE), 0.02), [0.0, 3.0], status=status), 100)
