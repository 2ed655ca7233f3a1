"""By how much one way is better than another, paired by draw."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, stdev
from typing import Self

from scipy.stats import t

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Lead:
    """Mean of paired differences, and where it would lie with other draws, at a level of 95 %.

    Student's interval of a mean ("The Probable Error of a Mean", 1908). Where the items that are tested on are
    the same for every draw, it says nothing about other items.

    Attributes:
        value: the mean difference.
        low: the lower end of its interval; minus infinity where there is one draw only.
        high: the upper end.
    """

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float]) -> Self:
        """Compare figures of the same draws, in the same order, one or more."""
        differences = [a - b for a, b in zip(ours, theirs, strict=True)]
        mean = fmean(differences)
        if len(differences) < 2:
            return cls(mean, -math.inf, math.inf)
        count = len(differences)
        half = float(t.ppf((1 + LEVEL) / 2, count - 1)) * stdev(differences) / math.sqrt(count)
        return cls(mean, mean - half, mean + half)

    def points(self) -> str:
        """Return it in points of a hundred: ``+4.2 (3.1 to 5.3)``."""
        if math.isinf(self.low):
            return f"{100 * self.value:+.1f} (one draw)"
        return f"{100 * self.value:+.1f} ({100 * self.low:.1f} to {100 * self.high:.1f})"


def cost_of(curve: Mapping[int, float], accuracy: float) -> float:
    """Return how many shots another way needs for an accuracy, between measured numbers by the logarithm of shots.

    Args:
        curve: accuracy by number of shots, of the other way.
        accuracy: what it is to reach.

    Returns:
        At least the fewest shots of the curve; infinity where its best is below the accuracy.
    """
    points = sorted(curve.items())
    if points[0][1] >= accuracy:
        return float(points[0][0])
    for (fewer, below), (more, above) in pairwise(points):
        if below < accuracy <= above:
            share = (accuracy - below) / (above - below)
            return math.exp(math.log(fewer) + share * math.log(more / fewer))
    return math.inf
