"""How often each interval holds the true value, by Monte Carlo: 95 of 100 are what it says.

Examples come alone or in groups of five. A group's examples are alike with an intra-group correlation of 0, 0.3 or 1.
A share is p; the second model of a pair keeps nine tenths of what the first has right, and has a twentieth of the rest
right.
The bootstrapped metrics are of two labels of equal frequency, predicted right with probability p.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from typing import TypeAlias

import numpy as np

from benchmarks.experiment import Document, Experiment
from benchmarks.table import table
from registry.statistics import Interval, bca, classification_metrics, difference, share
from registry.statistics.share import wilson

COUNTS = (20, 100, 1000)
SHARES = (0.5, 0.95, 1.0)
GROUPINGS = ((1, 0.0), (5, 0.0), (5, 0.3), (5, 1.0))
"""Examples of a group, and their correlation."""

METRICS = ("balanced_accuracy", "macro_f1", "auroc", "log_loss")

KEPT, GAINED = 0.9, 0.05
SHARPNESS = 1.5
LEAST, MOST = 0.93, 0.97

_Setting: TypeAlias = tuple[int, int, float, float]
"""Examples, of a group, their correlation, and the true share of right predictions."""

_CERTAIN = 12.0
"""Standard deviations that the right label is ahead by where every prediction is right."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One interval in one setting.

    Attributes:
        interval: of what: ``share``, ``difference`` or a metric.
        examples: n.
        size: examples of a group.
        correlation: of a group's examples, 0 to 1.
        p: the true share of right predictions.
        runs: simulated data sets.
        decided: how many of them had an interval.
        held: how many intervals held the true value.
        exact: the exact coverage, where counts can be enumerated.
        forced: whether counts are too coarse: the next possible coverage is above 97 %.
    """

    interval: str
    examples: int
    size: int
    correlation: float
    p: float
    runs: int
    decided: int
    held: int
    exact: float | None = None
    forced: bool = False

    @property
    def coverage(self) -> float | None:
        """The share of intervals that held the true value; None where hardly any was decided."""
        return self.held / self.decided if self.decided > self.runs / 10 else None

    @property
    def reached(self) -> bool:
        """Whether the coverage is 93 % or more, two standard errors of the simulation allowed."""
        if self.coverage is None or self.forced:
            return True
        return self.coverage + 2 * sqrt(self.coverage * (1 - self.coverage) / self.decided) >= LEAST

    def __str__(self) -> str:
        if self.coverage is None:
            return "not decidable"
        shown = f"{100 * self.coverage:.1f}"
        if self.exact is not None:
            shown += f" ({100 * self.exact:.1f})"
        undecided = 1 - self.decided / self.runs
        return shown + (f", {100 * undecided:.0f} % not decidable" if undecided >= 0.005 else "")


def cells(
    counts: Sequence[int], runs: int, resampled: int, seed: int = 0, shares: Sequence[float] = SHARES
) -> Iterator[Cell]:
    """Simulate every setting.

    Args:
        counts: of examples.
        runs: data sets for shares and differences.
        resampled: data sets for the bootstrapped metrics.
        seed: of all of them.
        shares: of right predictions.
    """
    for count in counts:
        for size, correlation in GROUPINGS:
            for p in shares:
                yield from _setting((count, size, correlation, p), runs, resampled, seed)


def _setting(setting: _Setting, runs: int, resampled: int, seed: int) -> Iterator[Cell]:
    count, size, correlation, p = setting
    random = np.random.default_rng([seed, count, size, int(10 * correlation), int(100 * p)])
    groups = np.arange(count) // size
    alone = exact_share(count, p) if size == 1 else None
    coarse = size == 1 and too_coarse(count, p)
    yield _cell("share", setting, runs, lambda: share(_right(random, *setting), groups), p, alone, coarse)
    gap = p - (KEPT * p + GAINED * (1 - p))
    yield _cell("difference", setting, runs, lambda: _pair(random, *setting), gap)
    yield from _bootstrapped(random, setting, resampled)


def exact_share(count: int, p: float) -> float:
    """Return the exact coverage of the interval of a share of independent examples."""
    return float(sum(chance for chance, holds in _binomial(count, p) if holds))


def too_coarse(count: int, p: float) -> bool:
    """Tell whether the interval could hold the true value no oftener without passing 97 %, or always does."""
    outside = [chance for chance, holds in _binomial(count, p) if not holds]
    covered = exact_share(count, p)
    return covered > MOST or (covered < LEAST and covered + max(outside) > MOST)


def _binomial(count: int, p: float) -> Iterator[tuple[float, bool]]:
    # Of a sum of coins, one by one: exact enough without a library.
    chances = np.ones(1)
    for _ in range(count):
        chances = np.convolve(chances, [1 - p, p])
    for right, chance in enumerate(chances):
        low, high = wilson(right / count, count)
        yield float(chance), low <= p <= high


def _cell(
    name: str,
    setting: _Setting,
    runs: int,
    draw: Callable[[], Interval],
    true: float,
    exact: float | None = None,
    forced: bool = False,
) -> Cell:
    found = [draw() for _ in range(runs)]
    held = sum(each.low - 1e-12 <= true <= each.high + 1e-12 for each in found)
    return Cell(name, *setting, runs, len(found), held, exact, forced)


def _bootstrapped(random: np.random.Generator, setting: _Setting, runs: int) -> Iterator[Cell]:
    true = _true(setting[3])
    decided, held = dict.fromkeys(METRICS, 0), dict.fromkeys(METRICS, 0)
    groups = np.arange(setting[0]) // setting[1]
    for _ in range(runs):
        found = bca(classification_metrics(*_scores(random, *setting)), setting[0], groups)
        for name in METRICS:
            if name in found and found[name].decidable:
                decided[name] += 1
                held[name] += found[name].holds(true[name])
    for name in METRICS:
        yield Cell(name, *setting, runs, decided[name], held[name])


@cache
def _true(p: float) -> dict[str, float]:
    count = 400_000
    metrics = classification_metrics(*_scores(np.random.default_rng(7), count, 1, 0.0, p))
    return {name: metrics[name].value(count) for name in METRICS}


def _right(random: np.random.Generator, count: int, size: int, correlation: float, p: float) -> np.ndarray:
    """Return which predictions are right, bool [N]: beta-binomial within groups."""
    if correlation in (0.0, 1.0) or p in (0.0, 1.0):
        each = random.random(count if correlation == 0 else count // size) < p
        return each if correlation == 0 else np.repeat(each, size)
    spread = 1 / correlation - 1
    own = random.beta(p * spread, (1 - p) * spread, count // size)
    right: np.ndarray = random.random(count) < np.repeat(own, size)
    return right


def _pair(random: np.random.Generator, count: int, size: int, correlation: float, p: float) -> Interval:
    first, kept, gained = (_right(random, count, size, correlation, each) for each in (p, KEPT, GAINED))
    return difference(first, np.where(first, kept, gained), np.arange(count) // size)


def _scores(
    random: np.random.Generator, count: int, size: int, correlation: float, p: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits of two labels, float32 [N, 2], and right labels, int64 [N]."""
    kinds = count // size
    shared = random.random(count) < sqrt(correlation)
    labels = np.where(shared, np.repeat(random.integers(0, 2, kinds), size), random.integers(0, 2, count))
    noise = sqrt(1 - correlation) * random.normal(size=count)
    noise += sqrt(correlation) * np.repeat(random.normal(size=kinds), size)
    ahead = (NormalDist().inv_cdf(p) if p < 1 else _CERTAIN) + noise
    logits = np.zeros((count, 2), np.float32)
    logits[np.arange(count), labels] = SHARPNESS * ahead
    return logits, labels


def show(found: Sequence[Cell]) -> str:
    """Return a table: a row to each setting, a column to each interval."""
    names = ("share", "difference", *METRICS)
    settings = list(dict.fromkeys((each.examples, each.size, each.correlation, each.p) for each in found))
    by_place = {(each.examples, each.size, each.correlation, each.p, each.interval): each for each in found}
    rows = {}
    for count, size, correlation, p in settings:
        name = f"{count:,}, {'alone' if size == 1 else f'by {size}, correlation {correlation:g}'}, p {p:g}"
        rows[name] = [str(by_place[count, size, correlation, p, each]) for each in names]
    return table("examples", names, rows)


def measure(quick: bool, seed: int) -> Document:
    """Simulate, and print the table."""
    counts, runs, resampled = (COUNTS[:2], 200, 40) if quick else (COUNTS, 2000, 200)
    found = list(cells(counts, runs, resampled, seed))
    print(show(found))
    return {
        "seed": seed,
        "cells": [asdict(each) | {"coverage": each.coverage, "reached": each.reached} for each in found],
        "reached": all(each.reached for each in found),
    }


def main() -> None:
    """Run the command."""
    experiment = Experiment("coverage", __doc__, "few runs, up to 100 examples")
    experiment.parser.add_argument("--seed", type=int, default=0)
    given = experiment.arguments

    def run(home: Path) -> Document:
        return measure(given.quick, given.seed)

    experiment.run(run)


if __name__ == "__main__":
    main()
