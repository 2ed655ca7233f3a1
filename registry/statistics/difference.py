"""The difference of two shares on the same examples."""

from math import copysign, sqrt

import numpy as np

from registry.errors import InvalidValue
from registry.statistics.effective import effective_number, numbered
from registry.statistics.interval import LEVEL, Interval
from registry.statistics.quantiles import normal_quantile

TANGO = "tango"

_HALVINGS = 60


def difference(
    right: np.ndarray, other: np.ndarray, groups: np.ndarray | None = None, level: float = LEVEL
) -> Interval:
    """Return the first share minus the second, with Tango's interval on the effective number of examples.

    Args:
        right: bool [N], at least one.
        other: bool [N], of the same examples in the same order.
        groups: group of each example, [N] or [N, bytes]; None if there are no groups.
        level: confidence level.

    Raises:
        InvalidValue: there is no example, or the numbers differ.
    """
    if right.ndim != 1 or not len(right):
        raise InvalidValue(f"expected at least one example, got {list(right.shape)}")
    if right.shape != other.shape:
        raise InvalidValue(f"expected two predictions for each example, got {len(right)} and {len(other)}")
    numbers = numbered(groups, len(right))
    effective = effective_number(right.astype(np.float64) - other.astype(np.float64), numbers, level)
    only, only_other = int((right & ~other).sum()), int((other & ~right).sum())
    return difference_of_counts(
        only, only_other, len(right), groups=int(numbers.max()) + 1, effective=effective, level=level
    )


def difference_of_counts(
    only: int,
    only_other: int,
    examples: int,
    *,
    groups: int | None = None,
    effective: float | None = None,
    level: float = LEVEL,
) -> Interval:
    """Return the difference of two shares from the numbers of discordant examples.

    Args:
        only: examples that only the first has right.
        only_other: examples that only the second has right.
        examples: in all, at least one.
        groups: number of independent groups; None if there are no groups.
        effective: effective number of independent examples; None for all of them.
        level: of the interval.
    """
    number = float(examples) if effective is None else effective
    ends = tango(only / examples, only_other / examples, number, level)
    value = (only - only_other) / examples
    return Interval(value, ends, TANGO, examples, groups or examples, number, level=level)


def tango(only: float, only_other: float, count: float, level: float = LEVEL) -> tuple[float, float]:
    """Return the ends of the score interval of a difference of paired shares.

    Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design" (1998): the differences that the score test of section 3 does not reject.

    Args:
        only: the share of examples that only the first has right.
        only_other: the share that only the second has right.
        count: of independent examples, above 0, not necessarily whole.
        level: of the interval.
    """
    z = normal_quantile((1 + level) / 2)
    value = only - only_other
    # The score decreases with the hypothetical difference: it is z at the lower end and -z at the upper one.
    low, high = -1.0, value
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if score(only, only_other, count, middle) > z else (low, middle)
    lower, low, high = min(value, low), value, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if score(only, only_other, count, middle) > -z else (low, middle)
    return lower, max(value, high)


def score(only: float, only_other: float, count: float, supposed: float) -> float:
    """Return Tango's statistic: standard normal if the hypothetical difference is true.

    Args:
        only: the share of examples that only the first has right.
        only_other: the share that only the second has right.
        count: of independent examples, above 0.
        supposed: the hypothetical difference, -1 to 1.
    """
    # Maximum likelihood estimate, under the hypothetical difference, of the share that only the second has
    # right.
    b = -only - only_other + (2 - only + only_other) * supposed
    c = -only_other * supposed * (1 - supposed)
    restricted = (sqrt(max(b * b - 8 * c, 0.0)) - b) / 4
    variance = (2 * restricted + supposed * (1 - supposed)) / count
    gap = only - only_other - supposed
    if variance <= 0:
        return copysign(float("inf"), gap) if gap else 0.0
    return gap / sqrt(variance)
