"""The estimated wait: which requests are admitted, and what is learnt from those that were answered."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import pytest

from services.engine.wait_estimate import WaitEstimate
from services.errors import Overloaded


@contextmanager
def standing(estimate: WaitEstimate, requests: int, rows: int = 1) -> Iterator[None]:
    """Let some requests wait."""
    for _ in range(requests):
        estimate.enter(rows)
    yield
    for _ in range(requests):
        estimate.leave(rows)


def test_a_few_requests_of_many_rows_keep_nobody_out_who_has_one() -> None:
    estimate = WaitEstimate(longest_s=0.5)
    with standing(estimate, 6, rows=256):
        assert estimate.rows == 6 * 256
        with estimate.reserve(1, perf_counter() + 1):
            time.sleep(0.05)
        estimate.check(1, perf_counter() + 100)
        with pytest.raises(Overloaded):
            estimate.check(256, perf_counter() + 100)
    assert estimate.rows == 0


def test_rows_ahead_are_those_that_have_their_turn_before() -> None:
    estimate = WaitEstimate()
    with standing(estimate, 2, rows=5), standing(estimate, 1, rows=100):
        assert [estimate.ahead_of(rows) for rows in (1, 3, 10, 200)] == [4, 12, 30, 310]


def test_whoever_cannot_be_answered_in_time_is_refused_at_the_door() -> None:
    estimate = WaitEstimate()
    with estimate.reserve(1, perf_counter() + 1):
        time.sleep(0.05)
    places = [estimate.reserve(1, perf_counter() + 10) for _ in range(40)]
    for place in places:
        place.__enter__()
    with pytest.raises(Overloaded) as refused:
        estimate.reserve(1, perf_counter() + 1)
    assert refused.value.reason == "deadline"
    estimate.check(1, perf_counter() + 100)


def test_a_line_is_no_longer_than_it_may_be_however_far_the_deadline_is() -> None:
    estimate = WaitEstimate(longest_s=0.5)
    with estimate.reserve(1, perf_counter() + 1):
        time.sleep(0.05)
    with estimate.reserve(5, perf_counter() + 100), pytest.raises(Overloaded):
        estimate.check(20, perf_counter() + 100)


def test_a_line_of_one_batch_may_take_as_long_as_there_is_time() -> None:
    estimate = WaitEstimate(longest_s=0.5, short=32)
    with estimate.reserve(1, perf_counter() + 1):
        time.sleep(0.05)
    with standing(estimate, 31):
        estimate.check(1, perf_counter() + 100)
        with pytest.raises(Overloaded):
            estimate.check(2, perf_counter() + 100)
        with pytest.raises(Overloaded):
            estimate.check(1, perf_counter() + 1)


def test_once_somebody_was_refused_a_short_line_is_held_to_its_length_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    estimate = WaitEstimate(longest_s=0.5, short=32)
    with estimate.reserve(1, perf_counter() + 1):
        time.sleep(0.05)
    with standing(estimate, 31), pytest.raises(Overloaded):
        estimate.check(2, perf_counter() + 100)
    with standing(estimate, 15):
        with pytest.raises(Overloaded):
            estimate.check(1, perf_counter() + 100)
        later = perf_counter() + 2
        monkeypatch.setattr("services.engine.wait_estimate.perf_counter", lambda: later)
        estimate.check(1, later + 100)


def test_nobody_is_refused_where_nobody_waits() -> None:
    estimate = WaitEstimate()
    with estimate.reserve(1, perf_counter()):
        time.sleep(0.05)
    estimate.check(256, perf_counter() + 0.01)


def test_a_line_forgets_how_slow_it_was() -> None:
    estimate = WaitEstimate()
    with estimate.reserve(1, perf_counter() + 1):
        time.sleep(0.2)
    for _ in range(60):
        with estimate.reserve(1, perf_counter() + 1):
            pass
    with estimate.reserve(10, perf_counter() + 1):
        estimate.check(1, perf_counter() + 0.5)


def test_whoever_was_refused_tells_nothing_of_the_pace() -> None:
    estimate = WaitEstimate()
    with pytest.raises(Overloaded), estimate.reserve(1, perf_counter() + 1):
        time.sleep(0.05)
        raise Overloaded("elsewhere", "queue")
    with estimate.reserve(1000, perf_counter() + 1):
        estimate.check(1, perf_counter() + 0.1)
