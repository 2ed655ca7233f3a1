"""How long runs take, as measured: what the engine decides by."""

_WEIGHT = 0.2
"""Of a new measurement; five or so make up the average."""

_TRIAL = 32
"""Every so many choices the other way is tried, or one bad measurement would stand for ever."""


class Clock:
    """Seconds of a batch by its rows, alone on all cores or on one lane among others.

    Averages are exponential. What was not measured yet is scaled from the nearest size that was.

    Args:
        lanes: batches that may be under way at once.

    Attributes:
        work: seconds of one core that a row's run took last on its lane, waiting for others left out.
        doubted: whether the next run's work has to be measured.
    """

    __slots__ = ("_best", "_choices", "_lanes", "_seconds", "doubted", "work")

    def __init__(self, lanes: int = 1) -> None:
        self._lanes = lanes
        self._choices = 0
        self.work: float | None = None
        self.doubted = True
        self._seconds: tuple[dict[int, float], dict[int, float]] = ({}, {})
        self._best: tuple[float, int, bool] | None = None

    @property
    def row_seconds(self) -> float | None:
        """What a row costs in the best way there is, or None where nothing was measured."""
        return None if self._best is None else self._best[0]

    def observe(self, rows: int, seconds: float, *, alone: bool) -> None:
        """Note a run."""
        known = self._seconds[alone]
        before = known.get(rows)
        known[rows] = cost = seconds if before is None else before + _WEIGHT * (seconds - before)
        row_seconds = cost / rows / (1 if alone else self._lanes)
        if self._best is None or row_seconds <= self._best[0]:
            self._best = row_seconds, rows, alone
        elif self._best[1:] == (rows, alone):  # it was the best, and perhaps is no more
            self._best = min(
                (cost / size / (1 if way else self._lanes), size, bool(way))
                for way, measured in enumerate(self._seconds)
                for size, cost in measured.items()
            )

    def weigh(self, rows: int, seconds: float, work: float | None, cheap: float) -> None:
        """Note what a run on one core did itself.

        Asking a thread for its own seconds is a system call each time, dear beside a small run. So only what is
        doubted is measured: what is not known, and what took longer than ``cheap``, by work or by waiting.

        Args:
            rows: how many.
            seconds: how long it took.
            work: seconds of its own, or None where they were not measured.
            cheap: seconds of a run that raises no doubts.
        """
        self.doubted = seconds > cheap
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

    def choose_alone(self, rows: int) -> bool:
        """Decide whether rows are done sooner by one run on all cores than shared out among the lanes."""
        alone = self.expect(rows, alone=True)
        shared = self.expect(-(-rows // self._lanes), alone=False)
        # What was never tried is tried: first on a lane, which tells what the work is.
        best = shared is not None and (alone is None or alone <= shared)
        self._choices += 1
        return best if self._choices % _TRIAL else not best
