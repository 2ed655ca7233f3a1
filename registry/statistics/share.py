"""Shares of examples, such as accuracy."""

from math import sqrt

import numpy as np

from registry.errors import InvalidValue
from registry.statistics.effective import effective_number, numbered
from registry.statistics.interval import LEVEL, Interval
from registry.statistics.quantiles import normal_quantile

WILSON = "wilson"


def share(right: np.ndarray, groups: np.ndarray | None = None, level: float = LEVEL) -> Interval:
    """Return the share of true values, with Wilson's score interval on the effective number of examples.

    Args:
        right: bool [N], at least one.
        groups: group of each example, [N] or [N, bytes]; None if there are no groups.
        level: of the interval.

    Raises:
        InvalidValue: there is no example, or the number of groups differs.
    """
    if right.ndim != 1 or not len(right):
        raise InvalidValue(f"expected at least one example, got {list(right.shape)}")
    numbers = numbered(groups, len(right))
    effective = effective_number(right.astype(np.float64), numbers, level)
    value = float(right.mean())
    return Interval(
        value,
        wilson(value, effective, level),
        WILSON,
        len(right),
        int(numbers.max()) + 1,
        effective,
        level=level,
    )


def wilson(value: float, count: float, level: float = LEVEL) -> tuple[float, float]:
    """Return the ends of the score interval of a share.

    Wilson, "Probable Inference, the Law of Succession, and Statistical Inference" (1927).

    Args:
        value: the share, 0 to 1.
        count: of independent examples, above 0, not necessarily whole.
        level: of the interval.
    """
    z = normal_quantile((1 + level) / 2)
    middle = (value + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * sqrt(value * (1 - value) / count + (z / (2 * count)) ** 2)
    # Rounding must not move an end past the share, or outside 0 to 1.
    return max(0.0, min(value, middle - half)), min(1.0, max(value, middle + half))
