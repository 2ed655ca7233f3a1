"""How long runs take, as measured: what the engine decides by."""

_WEIGHT = 0.2
"""Of a new measurement; five or so make up the average."""

_TRIAL = 32
"""Every so many choices the other way is tried, or one bad measurement would stand for ever."""


class Clock:
    """Seconds of a batch by its rows, alone on all cores or on one lane among others.

    Averages are exponential. What was not measured yet is scaled from the nearest size that was.
    """

    __slots__ = ("_choices", "_seconds")

    def __init__(self) -> None:
        self._choices = 0
        self._seconds: tuple[dict[int, float], dict[int, float]] = ({}, {})

    def observe(self, rows: int, seconds: float, *, alone: bool) -> None:
        """Note a run."""
        known = self._seconds[alone]
        before = known.get(rows)
        known[rows] = seconds if before is None else before + _WEIGHT * (seconds - before)

    def expect(self, rows: int, *, alone: bool) -> float | None:
        """Return how long a run of some rows should take, or None where nothing was measured."""
        known = self._seconds[alone]
        exact = known.get(rows)
        if exact is not None or not known:
            return exact
        nearest = min(known, key=lambda size: abs(size - rows))
        return known[nearest] * rows / nearest

    def choose_alone(self, rows: int, lanes: int) -> bool:
        """Decide whether rows are done sooner by one run on all cores than shared out among the lanes."""
        alone = self.expect(rows, alone=True)
        shared = self.expect(-(-rows // lanes), alone=False)
        # What was never tried is tried: first alone, as a single request comes first.
        best = alone is None or (shared is not None and alone <= shared)
        self._choices += 1
        return best if self._choices % _TRIAL else not best

    def row_seconds(self, lanes: int) -> float | None:
        """Return the seconds that a row costs in the best way there is, or None where nothing was measured."""
        ways = [
            seconds / rows / (1 if alone else lanes)
            for alone, known in enumerate(self._seconds)
            for rows, seconds in known.items()
        ]
        return min(ways, default=None)
