"""Learning curves: accuracy by the number of labelled examples."""

from dataclasses import dataclass

import numpy as np

from adapters.advise.crossval import left_out
from adapters.advise.intervals import mean
from registry.statistics.interval import Interval

DRAWS = 3
"""Nested draws of a half and a quarter that the curve is averaged over."""

_LEAST = 3
"""Items of a class below which no half of it can be cross-validated."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy by the number of examples, each predicted by a head that was not fitted to it.

    Attributes:
        items: how many, ascending: a quarter, a half and all, as far as each class has two items in them.
        accuracy: mean over the draws, one for each.
        slope: gain in accuracy from the last doubling of the items, or None where nothing can be halved.
    """

    items: tuple[int, ...]
    accuracy: tuple[float, ...]
    slope: Interval | None


def curve(
    features: np.ndarray, targets: np.ndarray, labels: int, seed: int = 0, groups: np.ndarray | None = None
) -> Curve:
    """Measure the learning curve of a head.

    The slope compares, example by example, the full set with the halves that contain it, as a paired
    comparison.

    Args:
        features: float32 [N, D].
        targets: label numbers, int64 [N]; every class that occurs has two items or more.
        labels: number of labels.
        seed: of the draws.
        groups: of the items, int64 [N], which the interval goes by; None where each stands alone.
    """
    whole = left_out(features, targets, labels).right
    counts = np.bincount(targets, minlength=labels)
    rarest = int(counts[counts > 0].min())
    if rarest < _LEAST:
        return Curve((len(targets),), (float(whole.mean()),), None)
    halves = np.full((DRAWS, len(targets)), np.nan)
    quarters: list[float] = []
    sizes = [len(targets)]
    for draw in range(DRAWS):
        half, quarter = _nested(targets, np.random.default_rng([seed, draw]))
        halves[draw, half] = left_out(features[half], targets[half], labels).right
        sizes = [len(half), len(targets)]
        if len(quarter):
            quarters.append(float(left_out(features[quarter], targets[quarter], labels).right.mean()))
            sizes = [len(quarter), *sizes]
    seen = np.isfinite(halves).any(axis=0)
    gains = whole[seen] - np.nanmean(halves[:, seen], axis=0)
    means = [float(np.mean(quarters))] if quarters else []
    return Curve(
        tuple(sizes),
        (*means, float(np.nanmean(halves)), float(whole.mean())),
        mean(gains, None if groups is None else groups[seen]),
    )


def _nested(targets: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw half of each class and half of that: positions, int64; the quarter is empty where a class has too few."""
    half, quarter, enough = [], [], True
    for label in np.unique(targets):
        members = random.permutation(np.flatnonzero(targets == label))
        most = max(2, len(members) // 2)
        half.append(members[:most])
        enough = enough and most >= 4
        quarter.append(members[: max(2, most // 2)])
    return np.sort(np.concatenate(half)), np.sort(np.concatenate(quarter)) if enough else np.zeros(
        0, np.int64
    )
