"""Measured run times, by which the engine chooses batch sizes and threads."""

from collections.abc import Mapping
from statistics import fmean

CHEAP_S = 0.0002
"""A row that takes less is cheap: to wake a thread and be woken by it costs about 0.1 ms."""

_WAITS = 50
"""A row that takes this many times ``CHEAP_S`` waits for something. It is not cheap, whatever its CPU time."""

_WEIGHT = 0.2
"""Weight of a new measurement; about five make up the average."""

_ENOUGH = 3
"""Runs that establish the cost of a size: the minimum of them, as first runs take longer."""

_HICCUP = 2.0
"""A run counts for at most this many times the average: it may have waited for a core."""

_TRIAL = 32
"""One choice in this many tries the other option; otherwise one bad measurement would persist forever."""

_LONG_S = 0.1
"""A batch that takes less core time may always be doubled: the fixed cost of a run matters for it."""

_WORTH = 0.05
"""Share of a row's time that doubling a longer batch must save."""

_FIRST = 8
"""Most rows of a batch before any size was measured often enough."""


class LatencyModel:
    """Seconds of a batch by its rows, alone on all cores or on one core beside others.

    Averages are exponential, and the weight of outliers is limited. Sizes that were not measured are scaled from the
    nearest measured one.

    Args:
        workers: batches that may run at once.

    Attributes:
        work: CPU seconds of the last run per row, without waiting.
        doubted: whether the CPU time of the next run has to be measured.
    """

    __slots__ = ("_best", "_choices", "_runs", "_seconds", "_workers", "doubted", "work")

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        self._choices = 0
        self.work: float | None = None
        self.doubted = True
        self._seconds: tuple[dict[int, float], dict[int, float]] = ({}, {})
        self._runs: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self._best: tuple[float, int, bool] | None = None

    @property
    def row_seconds(self) -> float | None:
        """Seconds of a row with the best batch size and number of cores, or None before any measurement."""
        return None if self._best is None else self._best[0]

    def observe(self, rows: int, seconds: float, *, alone: bool) -> None:
        """Record the duration of a run."""
        known = self._seconds[alone]
        runs = self._runs[alone]
        runs[rows] = count = runs.get(rows, 0) + 1
        before = known.get(rows, seconds)
        if count <= _ENOUGH:
            cost = min(before, seconds)
        else:
            cost = before + _WEIGHT * (min(seconds, _HICCUP * before) - before)
        known[rows] = cost
        row_seconds = cost / rows / (1 if alone else self._workers)
        if self._best is None or row_seconds <= self._best[0]:
            self._best = row_seconds, rows, alone
        elif self._best[1:] == (rows, alone):  # it was the best, and may not be any more
            self._best = min(
                (cost / size / (1 if way else self._workers), size, bool(way))
                for way, measured in enumerate(self._seconds)
                for size, cost in measured.items()
            )

    @property
    def cheap(self) -> bool:
        """Whether a row costs less than passing it to a thread."""
        if self.work is None or self._best is None:
            return False
        return self.work < CHEAP_S and self._best[0] < _WAITS * CHEAP_S

    def weigh(self, rows: int, seconds: float, work: float | None) -> None:
        """Record the CPU time of a run on one core.

        Reading a thread's CPU time is a system call, expensive compared to a small run. So it is read only for the
        first run, and after a run that took longer than ``CHEAP_S``, by work or by waiting.

        Args:
            rows: number of rows.
            seconds: duration.
            work: CPU seconds, or None where they were not measured.
        """
        self.doubted = seconds > CHEAP_S
        if work is None:  # at most as before, and at most the duration
            work = seconds if self.work is None else min(seconds, self.work * rows)
        self.work = work / rows

    def expect(self, rows: int, *, alone: bool) -> float | None:
        """Return the expected seconds of a run, or None before any measurement."""
        known = self._seconds[alone]
        exact = known.get(rows)
        if exact is not None or not known:
            return exact
        nearest = min(known, key=lambda size: abs(size - rows))
        return known[nearest] * rows / nearest

    def worthwhile(self, rows: int, *, alone: bool) -> int:
        """Return the most rows that a batch should have.

        A long batch of many rows is no faster than two of half the size, makes others wait, and needs memory for all
        its activations at once. ResNet-18 used 698 MiB with 32 rows a batch; with 8 it used 493 MiB and answered 1.03
        times as fast. Whether doubling pays follows from the fixed cost of a run, fitted to all sizes that were
        measured often enough. On a CPU it pays where reading the weights takes longer than computing with them.

        Args:
            rows: the limit on a batch.
            alone: on all cores.
        """
        if self._best is None:
            return min(rows, _FIRST)
        if self._best[0] * self._workers * rows <= _LONG_S:
            return rows
        way = alone if self._seconds[alone] else not alone
        known = self._seconds[way]
        sure = {size: known[size] for size, count in self._runs[way].items() if count >= _ENOUGH}
        if not sure:
            rows = min(rows, _FIRST)
        fixed_s, row_s = _fit(sure or known)
        largest, cores = max(sure or known), self._workers if way else 1
        size = 1
        while size < rows:
            lasts = fixed_s + size * row_s
            if lasts * cores > _LONG_S and (size > largest or fixed_s / (2 * lasts) < _WORTH):
                break
            size *= 2
        return min(rows, size)

    def choose_alone(self, rows: int) -> bool:
        """Return whether one run on all cores finishes sooner than runs of the same rows on several workers."""
        alone = self.expect(rows, alone=True)
        shared = self.expect(-(-rows // self._workers), alone=False)
        # Each option is tried once, first one core, which measures the CPU time.
        best = shared is not None and (alone is None or alone <= shared)
        self._choices += 1
        return best if self._choices % _TRIAL else not best


def _fit(seconds: Mapping[int, float]) -> tuple[float, float]:
    """Return the fixed seconds of a run and the seconds of a row, by least squares.

    The cost per row is fitted to the inverse of the rows, so that long runs count no more than short ones.

    Args:
        seconds: seconds of a run, by its rows; one size or more.
    """
    costs = {1 / size: cost / size for size, cost in seconds.items()}
    inverse, cost = fmean(costs), fmean(costs.values())
    spread = sum((each - inverse) ** 2 for each in costs)
    if spread:
        fixed_s = sum((each - inverse) * (costs[each] - cost) for each in costs) / spread
    else:
        fixed_s = cost if inverse == 1 else 0.0
    return fixed_s, cost - fixed_s * inverse
