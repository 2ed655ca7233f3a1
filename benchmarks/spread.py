"""A figure that was taken several times."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and range of repeated measurements.

    Attributes:
        median: the middle one, or the mean of the two in the middle.
        low: the smallest.
        high: the largest.
        repeats: how many there were.
    """

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Summarise one value or more."""
        return cls(median(values), min(values), max(values), len(values))

    def show(self, places: int = 2) -> str:
        """Return ``median (low–high)``."""
        return f"{self.median:.{places}f} ({self.low:.{places}f}–{self.high:.{places}f})"


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest of the values that at least a share of them, 0 to 1, do not exceed."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, -int(-share * len(ranked) // 1) - 1))]
