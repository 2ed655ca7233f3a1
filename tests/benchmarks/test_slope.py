import numpy as np
import pytest

from benchmarks.slope import Slope


def wandering(random: np.random.Generator, count: int, correlation: float) -> np.ndarray:
    """An autoregression of first order."""
    steps = random.normal(size=count)
    values = np.zeros(count)
    for number in range(1, count):
        values[number] = correlation * values[number - 1] + steps[number]
    return values


def test_a_straight_line_has_its_slope_and_no_doubt() -> None:
    times = np.arange(20.0)
    slope = Slope.of(times, 3 + 2 * times)
    assert (slope.value, slope.low, slope.high) == pytest.approx((2, 2, 2))
    assert slope.per(60).value == pytest.approx(120)


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
def test_the_interval_holds_the_true_slope_nearly_as_often_as_it_says(correlation: float) -> None:
    """It says 95 %; without the correction, where neighbours resemble each other by 0.9, it would be less than half."""
    random = np.random.default_rng(0)
    times = np.arange(400.0)
    held = 0
    for _ in range(200):
        slope = Slope.of(times, 0.01 * times + wandering(random, 400, correlation))
        held += slope.low <= 0.01 <= slope.high
    assert held / 200 >= 0.8


def test_a_growing_series_is_told_from_a_flat_one() -> None:
    random = np.random.default_rng(1)
    times = np.arange(300.0)
    noise = wandering(random, 300, 0.5)
    assert Slope.of(times, 0.1 * times + noise).low > 0
    assert Slope.of(times, noise).low < 0 < Slope.of(times, noise).high


def test_too_few_values_are_refused() -> None:
    with pytest.raises(ValueError, match="8 values"):
        Slope.of(np.arange(3.0), np.arange(3.0))
