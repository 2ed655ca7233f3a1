"""How long runs take, as measured: what the engine decides by."""

from collections.abc import Mapping
from statistics import fmean

CHEAP_S = 0.0002
"""A row that takes less is cheap: waking a thread and being woken costs about 0.1 ms."""

_WAITS = 50
"""What takes this many times as long waits for something, whatever its own work is, and is not cheap."""

_WEIGHT = 0.2
"""Of a new measurement; five or so make up the average."""

_ENOUGH = 3
"""Runs of a size that tell what it costs: the least of them, as what is run for the first time takes longer."""

_HICCUP = 2.0
"""Times the average that one run may count for, however long it took: it may have waited for a core."""

_TRIAL = 32
"""Every so many choices the other way is tried, or one bad measurement would stand for ever."""

_LONG_S = 0.1
"""A batch that takes less of the cores' time may be doubled: there, what a run costs apart from its rows counts."""

_WORTH = 0.05
"""Of a row's time: what doubling a batch that takes longer has to spare."""

_FIRST = 8
"""Rows of a batch at most before any size was measured often enough."""


class LatencyModel:
    """Seconds of a batch by its rows, alone on all cores or on one core among others.

    Averages are exponential, and no run counts for much more than the average. What was not measured yet is scaled
    from the nearest size that was.

    Args:
        workers: batches that may be under way at once.

    Attributes:
        work: seconds of one core that a row's run took last, waiting for others left out.
        doubted: whether the next run's work has to be measured.
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
        """What a row costs in the best way there is, or None where nothing was measured."""
        return None if self._best is None else self._best[0]

    def observe(self, rows: int, seconds: float, *, alone: bool) -> None:
        """Note a run."""
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
        elif self._best[1:] == (rows, alone):  # it was the best, and perhaps is no more
            self._best = min(
                (cost / size / (1 if way else self._workers), size, bool(way))
                for way, measured in enumerate(self._seconds)
                for size, cost in measured.items()
            )

    @property
    def cheap(self) -> bool:
        """Whether a row takes next to no time."""
        if self.work is None or self._best is None:
            return False
        return self.work < CHEAP_S and self._best[0] < _WAITS * CHEAP_S

    def weigh(self, rows: int, seconds: float, work: float | None) -> None:
        """Note what a run on one core did itself.

        Asking a thread for its own seconds is a system call each time, dear beside a small run. So only what is
        doubted is measured: what is not known, and what took longer than ``CHEAP_S``, by work or by waiting.

        Args:
            rows: how many.
            seconds: how long it took.
            work: seconds of its own, or None where they were not measured.
        """
        self.doubted = seconds > CHEAP_S
        if work is None:  # no more than before, and nobody works for longer than it takes
            work = seconds if self.work is None else min(seconds, self.work * rows)
        self.work = work / rows

    def expect(self, rows: int, *, alone: bool) -> float | None:
        """Return how long a run of some rows should take, or None where nothing was measured."""
        known = self._seconds[alone]
        exact = known.get(rows)
        if exact is not None or not known:
            return exact
        nearest = min(known, key=lambda size: abs(size - rows))
        return known[nearest] * rows / nearest

    def worthwhile(self, rows: int, *, alone: bool) -> int:
        """Return up to how many rows a batch had better have.

        A long batch of many rows is no faster than two of half as many, keeps others waiting, and needs the memory
        for all its activations at once: ResNet-18 held 698 MiB with 32 rows a batch, and 493 with 8, which were
        answered 1.03 times as fast. What a run costs apart from its rows, by all sizes that were measured often enough,
        tells whether doubling pays all the same: on a CPU it does where reading the weights takes longer than
        computing with them.

        Args:
            rows: that a batch may have.
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
        """Decide whether rows are done sooner by one run on all cores than shared out among the workers."""
        alone = self.expect(rows, alone=True)
        shared = self.expect(-(-rows // self._workers), alone=False)
        # What was never tried is tried: first on one core, which tells what the work is.
        best = shared is not None and (alone is None or alone <= shared)
        self._choices += 1
        return best if self._choices % _TRIAL else not best


def _fit(seconds: Mapping[int, float]) -> tuple[float, float]:
    """Return the seconds that runs take apart from their rows, and those of a row, by least squares.

    What is fitted is a row's cost by the inverse of the rows, so that long runs count for no more than short ones.

    Args:
        seconds: of a run, by its rows; one size or more.
    """
    costs = {1 / size: cost / size for size, cost in seconds.items()}
    inverse, cost = fmean(costs), fmean(costs.values())
    spread = sum((each - inverse) ** 2 for each in costs)
    if spread:
        fixed_s = sum((each - inverse) * (costs[each] - cost) for each in costs) / spread
    else:
        fixed_s = cost if inverse == 1 else 0.0
    return fixed_s, cost - fixed_s * inverse
