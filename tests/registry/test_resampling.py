"""Intervals of shares: those of the bootstrap, drawn at once."""

import numpy as np
import pytest

from registry import resampling
from registry.errors import InvalidValue


def test_an_interval_is_that_of_resampling_the_items_one_by_one() -> None:
    right = np.random.default_rng(0).random(200) < 0.8
    found = resampling.share(right)
    draws = np.random.default_rng(1).integers(0, 200, (4000, 200))
    low, high = np.percentile(right[draws].mean(axis=1), [2.5, 97.5])
    assert found.value == right.mean()
    assert found.low == pytest.approx(low, abs=0.012)
    assert found.high == pytest.approx(high, abs=0.012)


def test_a_difference_is_paired() -> None:
    random = np.random.default_rng(0)
    right = random.random(300) < 0.8
    other = right & (random.random(300) < 0.95)
    found = resampling.difference(right, other)
    draws = np.random.default_rng(1).integers(0, 300, (4000, 300))
    low, high = np.percentile(right[draws].mean(axis=1) - other[draws].mean(axis=1), [2.5, 97.5])
    assert found.value == pytest.approx(right.mean() - other.mean())
    assert found.low == pytest.approx(low, abs=0.008)
    assert found.high == pytest.approx(high, abs=0.008)
    assert found.low > 0


def test_an_interval_is_the_same_every_time() -> None:
    right = np.arange(50) % 3 > 0
    assert resampling.share(right) == resampling.share(right)


def test_equal_answers_differ_by_nothing() -> None:
    right = np.arange(50) % 3 > 0
    assert resampling.difference(right, right) == resampling.Interval(0, 0, 0)


def test_answers_to_nothing_have_no_share() -> None:
    with pytest.raises(InvalidValue, match="at least one"):
        resampling.share(np.zeros(0, bool))
    with pytest.raises(InvalidValue, match="two answers"):
        resampling.difference(np.zeros(2, bool), np.zeros(3, bool))
