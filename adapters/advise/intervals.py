"""Further confidence intervals: of a mean, and of a share of squared error."""

import math

import numpy as np

from adapters.datasets.dataset import Dataset
from registry.statistics.effective import effective_number, numbered
from registry.statistics.interval import LEVEL, Interval
from registry.statistics.quantiles import normal_quantile

DELTA = "delta"

FEWEST = 10
"""Fewest groups for these intervals, as for every metric that is not a share."""


def groups(dataset: Dataset, index: np.ndarray) -> np.ndarray | None:
    """Return the groups of some examples as indices, int64 [N]; None without groups."""
    names = [dataset.items[at].group for at in index]
    if not any(names):
        return None
    known: dict[object, int] = {}
    return np.array([known.setdefault((name or at), len(known)) for at, name in enumerate(names)], np.int64)


def mean(values: np.ndarray, together: np.ndarray | None = None) -> Interval:
    """Return the mean of values, float64 [N], with its interval.

    Args:
        values: at least one.
        together: their groups, int64 [N]; None where each stands alone.
    """
    return _around(float(values.mean()), values, together)


def removed(errors: np.ndarray, others: np.ndarray, together: np.ndarray | None = None) -> Interval:
    """Return the share by which some squared errors are lower than others on the same examples.

    The interval is that of a ratio of means, by the delta method.

    Args:
        errors: squared errors of the better model, float64 [N], at least 0.
        others: squared errors of the other model, likewise.
        together: groups of the examples, int64 [N]; None where each stands alone.
    """
    whole = max(float(others.mean()), 1e-12)
    value = 1 - float(errors.mean()) / whole
    return _around(value, (others - errors - value * others) / whole, together)


def below(interval: Interval, value: float) -> bool:
    """Tell whether an interval is completely below a value; False if it is not decidable."""
    return interval.decidable and interval.high < value


def above(interval: Interval, value: float) -> bool:
    """Tell whether an interval is completely above a value; False if it is not decidable."""
    return interval.decidable and interval.low > value


def _around(value: float, deviations: np.ndarray, together: np.ndarray | None) -> Interval:
    count = len(deviations)
    numbers = numbered(together, count)
    kinds = int(numbers.max()) + 1
    effective = effective_number(deviations, numbers)
    if kinds < FEWEST:
        alone = "examples" if kinds == count else "groups"
        return Interval(value, None, DELTA, count, kinds, effective, f"{kinds} {alone}, {FEWEST} are needed")
    half = normal_quantile((1 + LEVEL) / 2) * float(deviations.std(ddof=1)) / math.sqrt(effective)
    return Interval(value, (value - half, value + half), DELTA, count, kinds, effective)
