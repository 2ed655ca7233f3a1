"""Bootstrap confidence intervals of any metric, resampling groups of examples.

The method is the bias-corrected and accelerated interval (BCa) of Efron, "Better Bootstrap Confidence
Intervals" (1987), with whole groups as the resampled units. A sample of k groups varies less than their
population. Therefore the interval uses quantiles of Student's t, widened by the square root of k / (k - 1):
Hesterberg, "What Teachers Should Know About the Bootstrap" (2015).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite, sqrt
from typing import TypeAlias

import numpy as np

from registry.statistics.effective import numbered
from registry.statistics.interval import LEVEL, Interval
from registry.statistics.quantiles import normal_probability, normal_quantile, student_quantile

BCA = "bca"

RESAMPLES = 2000
FEWEST = 10
"""Fewest groups of each kind that a metric depends on; with fewer, resamples are too similar for an interval."""

MAX_LEFT_OUT = 400
"""Most groups that are left out one by one for the acceleration; more are left out in blocks."""

_SEED = 0
_CHUNK = 1 << 21

Statistic: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""Maps weights of examples, float64 [N, R], to the metric for each column, float64 [R]; nan if undefined."""


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """A metric of N examples and of resamples of them.

    Attributes:
        statistic: maps weights to values.
        rests: which examples belong to each kind that the metric depends on, bool [N] or [N, kinds]; kinds
            without an example do not count.
        reason: why resampling cannot give its interval; empty if it can.
    """

    statistic: Statistic
    rests: Mapping[str, np.ndarray] = field(default_factory=dict)
    reason: str = ""

    def value(self, examples: int) -> float:
        """Return the metric of all examples with weight 1; nan if it is undefined."""
        return float(self.statistic(np.ones((examples, 1)))[0])


def bca(
    metrics: Mapping[str, Metric], examples: int, groups: np.ndarray | None = None, level: float = LEVEL
) -> dict[str, Interval]:
    """Return the intervals of the defined metrics, all from the same resamples. The result is deterministic.

    Args:
        metrics: by name.
        examples: number of examples, N.
        groups: group of each example, [N] or [N, bytes]; None if there are no groups.
        level: confidence level.
    """
    numbers = numbered(groups, examples)
    kinds = int(numbers.max(initial=-1)) + 1
    values = {name: metric.value(examples) for name, metric in metrics.items()}
    defined = {name: metric for name, metric in metrics.items() if isfinite(values[name])}
    reasons = {name: metric.reason or _lacking(metric, numbers, kinds) for name, metric in defined.items()}
    wanted = {name: metric.statistic for name, metric in defined.items() if not reasons[name]}
    drawn = _measured(wanted, _resamples(numbers, kinds)) if wanted else {}
    left = _measured(wanted, _jackknife(numbers, kinds)) if wanted else {}
    found: dict[str, Interval] = {}
    for name, reason in reasons.items():
        ends = reason or _ends(values[name], drawn[name], left[name], kinds, level)
        why, both = (ends, None) if isinstance(ends, str) else ("", ends)
        found[name] = Interval(values[name], both, BCA, examples, kinds, float(kinds), why, level)
    return found


def _lacking(metric: Metric, groups: np.ndarray, kinds: int) -> str:
    """Describe the kind with too few groups; empty if all have enough."""
    what = "groups" if kinds < len(groups) else "examples"
    if kinds < FEWEST:
        return f"it takes {FEWEST} {what}, and there are {kinds}"
    for name, having in metric.rests.items():
        table = having.reshape(len(groups), -1)
        holding = np.array([len(np.unique(groups[column])) for column in table.T if column.any()], np.int64)
        fewest = int(holding.min(initial=kinds)) if len(holding) else 0
        if fewest < FEWEST:
            return f"it takes {FEWEST} {what} with {name}, and there are {fewest}"
    return ""


def _ends(
    value: float, drawn: np.ndarray, left: np.ndarray, kinds: int, level: float
) -> tuple[float, float] | str:
    """Return both ends, or the reason why there are none."""
    undefined = int((~np.isfinite(drawn)).sum()) + int((~np.isfinite(left)).sum())
    if undefined:
        return f"it is undefined in {undefined:,} of {len(drawn) + len(left):,} resamples"
    deviations = left.mean() - left
    spread = float((deviations**2).sum())
    if drawn.min() == drawn.max() or spread <= 0:
        return "it is the same in every resample"
    acceleration = float((deviations**3).sum()) / (6 * spread**1.5)
    below = float((drawn < value).mean() + (drawn == value).mean() / 2)
    if not 0 < below < 1:
        return "all resamples are on one side of it"
    bias = normal_quantile(below)
    wide = student_quantile((1 + level) / 2, kinds - 1) * sqrt(kinds / (kinds - 1))
    at = [_adjusted(bias, tail, acceleration) for tail in (-wide, wide)]
    low, high = (float(end) for end in np.quantile(drawn, at))
    return min(low, value), max(high, value)


def _adjusted(bias: float, tail: float, acceleration: float) -> float:
    """Return the share of resamples below an end."""
    moved = bias + tail
    denominator = 1 - acceleration * moved
    # Beyond this pole the correction is meaningless: the end is that of the last resample.
    if denominator <= 0:
        return 0.0 if tail < 0 else 1.0
    return normal_probability(bias + moved / denominator)


def _measured(statistics: Mapping[str, Statistic], weights: Iterator[np.ndarray]) -> dict[str, np.ndarray]:
    rows: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    for chunk in weights:
        for name, statistic in statistics.items():
            rows[name].append(statistic(chunk))
    return {name: np.concatenate(each) for name, each in rows.items()}


def _resamples(groups: np.ndarray, kinds: int) -> Iterator[np.ndarray]:
    """Yield how often each example is drawn, float64 [N, R], a few columns at a time."""
    random = np.random.default_rng(_SEED)
    for size in _chunks(RESAMPLES, len(groups)):
        drawn = random.integers(0, kinds, (kinds, size)) * size + np.arange(size)
        counts = np.bincount(drawn.ravel(), minlength=size * kinds).reshape(kinds, size)
        yield counts.astype(np.float64)[groups]


def _jackknife(groups: np.ndarray, kinds: int) -> Iterator[np.ndarray]:
    """Yield weights without one group or block of groups, float64 [N, R], a few columns at a time."""
    blocks = min(kinds, MAX_LEFT_OUT)
    # Blocks are of shuffled groups, because files are often sorted by label.
    places = np.random.default_rng(_SEED).permutation(kinds) % blocks
    block = places[groups]
    start = 0
    for size in _chunks(blocks, len(groups)):
        yield (block[:, None] != np.arange(start, start + size)).astype(np.float64)
        start += size


def _chunks(resamples: int, examples: int) -> Iterator[int]:
    size = max(1, _CHUNK // examples)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)
