"""Bootstrap intervals of shares, and of the difference between two shares on the same items. Pure.

The percentile interval of Efron ("Bootstrap Methods: Another Look at the Jackknife", 1979; "The
Jackknife, the Bootstrap and Other Resampling Plans", 1982, chapter 10). Items of a share are alike
but for being right or wrong, so that drawing N of them with replacement is one draw of the counts: binomial
for a share, multinomial for a pair. The intervals are those of the textbook, without its loops.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from registry.errors import InvalidValue

RESAMPLES = 1000
LEVEL = 0.95

_SEED = 0


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure, and where it would lie on other items of the same kind, at a level of 95 %.

    Attributes:
        value: the figure as it was measured.
        low: the 2.5th percentile of its resamples.
        high: the 97.5th.
    """

    value: float
    low: float
    high: float


def share(right: np.ndarray) -> Interval:
    """Return the share that is true, with its interval.

    Args:
        right: bool [N], at least one.

    Raises:
        InvalidValue: there is no item.
    """
    _check(right)
    return _resampled([int(right.sum())], [1], len(right))


def difference(right: np.ndarray, other: np.ndarray) -> Interval:
    """Return how much larger the first of two shares on the same items is, with its interval.

    Args:
        right: bool [N], at least one.
        other: bool [N], of the same items in the same order.

    Raises:
        InvalidValue: there is no item, or their numbers differ.
    """
    _check(right)
    if right.shape != other.shape:
        raise InvalidValue(f"expected two answers to each item, got {len(right)} and {len(other)}")
    return difference_of_counts(int((right & ~other).sum()), int((other & ~right).sum()), len(right))


def difference_of_counts(only: int, only_other: int, count: int) -> Interval:
    """Return the difference of two shares from what they differ in.

    Args:
        only: items that only the first has right.
        only_other: items that only the second has right.
        count: items in all, at least one.
    """
    return _resampled([only, only_other], [1, -1], count)


def _resampled(counts: Sequence[int], signs: Sequence[int], count: int) -> Interval:
    shares = np.array([*counts, count - sum(counts)]) / count
    draws = np.random.default_rng(_SEED).multinomial(count, shares, RESAMPLES)[:, :-1] @ np.array(signs)
    low, high = np.percentile(draws, [50 * (1 - LEVEL), 50 * (1 + LEVEL)]) / count
    return Interval(float(np.dot(counts, signs)) / count, float(low), float(high))


def _check(right: np.ndarray) -> None:
    if right.ndim != 1 or not len(right):
        raise InvalidValue(f"expected answers to at least one item, got {list(right.shape)}")
