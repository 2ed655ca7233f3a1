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
        row_seconds: what a row costs in the best way there is, or None where nothing was measured.
        work: seconds of one core that a row's run took last on its lane, waiting for others left out.
    """

    __slots__ = ("_choices", "_lanes", "_seconds", "row_seconds", "work")

    def __init__(self, lanes: int = 1) -> None:
        self._lanes = lanes
        self._choices = 0
        self.row_seconds: float | None = None
        self.work: float | None = None
        self._seconds: tuple[dict[int, float], dict[int, float]] = ({}, {})

    def observe(self, rows: int, seconds: float, *, alone: bool) -> None:
        """Note a run."""
        known = self._seconds[alone]
        before = known.get(rows)
        known[rows] = seconds if before is None else before + _WEIGHT * (seconds - before)
        self.row_seconds = min(
            cost / size / (1 if way else self._lanes)
            for way, measured in enumerate(self._seconds)
            for size, cost in measured.items()
        )

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
