"""A figure and how far it can be trusted."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

Z = 1.96
"""Standard errors on either side: intervals are of 95 %."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate between two ends that cover it with 95 %.

    Attributes:
        value: the estimate.
        low: the lower end.
        high: the upper end.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of_share(cls, right: np.ndarray) -> Self:
        """Return the share of right answers, bool [N], with Wilson's interval (1927)."""
        count, share = len(right), float(right.mean())
        middle = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
        half = Z / (1 + Z * Z / count) * math.sqrt(share * (1 - share) / count + (Z / (2 * count)) ** 2)
        return cls(share, min(share, middle - half), max(share, middle + half))

    @classmethod
    def of_lead(cls, right: np.ndarray, other: np.ndarray) -> Self:
        """Return by how much one share is above another on the same items, both bool [N].

        The interval is that of Bonett and Price, "Adjusted Wald Confidence Interval for a Difference of Binomial
        Proportions Based on Paired Data" (2012): it stays honest where few items are answered differently.
        """
        count = len(right) + 2
        won = (float((right & ~other).sum()) + 1) / count
        lost = (float((~right & other).sum()) + 1) / count
        half = Z * math.sqrt((won + lost - (won - lost) ** 2) / count)
        value = float(right.mean() - other.mean())
        return cls(value, min(value, won - lost - half), max(value, won - lost + half))

    @classmethod
    def of_mean(cls, values: np.ndarray) -> Self:
        """Return the mean of values, float64 [N], with its interval; without limits where there is one alone."""
        return cls._around(float(values.mean()), values)

    @classmethod
    def of_removed(cls, errors: np.ndarray, others: np.ndarray) -> Self:
        """Return the share of some errors that others on the same items do without, both float64 [N], 0 and above.

        The interval is that of a ratio of means, by the delta method.
        """
        mean = max(float(others.mean()), 1e-12)
        share = 1 - float(errors.mean()) / mean
        return cls._around(share, (others - errors - share * others) / mean)

    @classmethod
    def _around(cls, value: float, deviations: np.ndarray) -> Self:
        half = (
            Z * float(deviations.std(ddof=1)) / math.sqrt(len(deviations))
            if len(deviations) > 1
            else math.inf
        )
        return cls(value, value - half, value + half)
