"""The search for a penalty.

The strength of the penalty is one of 45 values spaced evenly on a logarithmic scale, 1e5 down to
1e-6, and is chosen by cross-validation, as Kornblith et al. do ("Do Better ImageNet Models
Transfer Better?", 2019, appendix A.3). Only those that can win are tried: decade by decade from the
strongest on, until two decades in a row are worse, then the quarters of a decade around the best.
"""

from collections.abc import Callable

import numpy as np

GRID = tuple(10.0 ** (5 - step / 4) for step in range(45))
"""Penalties, strongest first: half the squared norm of the weights, times this, is added to the mean loss."""

FOLDS = 5
MAX_SEARCH_ROWS = 4000
"""Most rows in the search; the head itself is always fitted to all rows."""

Search = tuple[tuple[float, float], ...]
"""(penalty, cost) of every step."""


def descend(cost: Callable[[float], float], tolerance: float = 0.0) -> tuple[float, Search]:
    """Find the strongest penalty of the grid whose cost is the least, or within a tolerance of it.

    Returns it, and every (penalty, cost) tried.
    """
    tried: dict[int, float] = {}
    for place in range(0, len(GRID), 4):
        tried[place] = cost(GRID[place])
        if place >= 8 and min(tried[place], tried[place - 4]) > min(tried.values()):
            break
    around = min(tried, key=lambda place: tried[place])
    for place in range(max(0, around - 3), min(len(GRID), around + 4)):
        if place not in tried:
            tried[place] = cost(GRID[place])
    least = min(tried.values())
    best = min(place for place, value in tried.items() if value <= least + tolerance)
    return GRID[best], tuple((GRID[place], value) for place, value in tried.items())


def stratified(targets: np.ndarray, folds: int) -> np.ndarray:
    """Deal the items of every class out to the folds in turn; return each item's fold, int64 [N]."""
    fold = np.empty(len(targets), np.int64)
    ranked = np.argsort(targets, kind="stable")
    fold[ranked] = np.arange(len(targets)) % folds
    return fold
