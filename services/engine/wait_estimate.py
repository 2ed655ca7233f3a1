"""The line of rows for one root, from the door to the answer, and how fast it moves.

Whoever is let in has to be answered in time, so the door asks how long the line is and how fast it
moved lately. The answer is taken from what happened: a request that came as the n-th in line and
was answered after t seconds moved at t/n a place. That holds decoding, waiting, running and whatever
else takes the machine's time, and it holds at any load (Little's law).
"""

from asyncio import CancelledError
from collections import Counter
from time import perf_counter

from services.errors import DeadlineExceeded, Overloaded

_WEIGHT = 0.1
"""Of a new measurement; a dozen or so make up the average."""

_MARGIN = 0.8
"""Share of the time that is left that a newcomer may be expected to take: some take longer than expected."""

_CALM_S = 1.0
"""Without a refusal for so long an overload is over: those who were told to come again after it have come."""


class WaitEstimate:
    """The rows of one root that were let in and are not answered yet; one event loop's.

    Args:
        longest_s: seconds that a newcomer may be expected to take, however far its deadline is: as long as
            the line is when an overload ends, so long does it take until nobody feels it any more.
        short: rows of a line to which that does not apply as long as nobody was refused of late: as many as run
            together are no overload, however slow the model.

    Attributes:
        rows: how many.
    """

    __slots__ = ("_calm_at", "_longest_s", "_pace", "_requests", "_short", "rows")

    def __init__(self, longest_s: float = float("inf"), short: int = 0) -> None:
        self.rows = 0
        self._requests: Counter[int] = Counter()
        self._longest_s = longest_s
        self._short = short
        self._pace = 0.0
        self._calm_at = 0.0

    def check(self, rows: int, deadline: float) -> None:
        """Check that more rows can be answered in time, as far as is known.

        Args:
            rows: how many.
            deadline: ``time.perf_counter()`` after which nobody waits any more.

        Raises:
            Overloaded: they cannot, others being ahead of them.
        """
        if not self.rows:
            return
        line = self.ahead_of(rows)
        now = perf_counter()
        allowed = deadline - now
        if self.rows + rows > self._short or now < self._calm_at:
            allowed = min(allowed, self._longest_s)
        if self._pace * line > allowed * _MARGIN:
            self._calm_at = now + _CALM_S
            raise Overloaded("more waits already than can be done in time", "deadline")

    def ahead_of(self, rows: int) -> int:
        """Return the rows that are before the last of some more, these included.

        Requests take turns, so that of each other one no more rows count than the newcomer has: a few with hundreds of
        rows each keep nobody out who has one.
        """
        return rows + sum(min(rows, others) * count for others, count in self._requests.items())

    def enter(self, rows: int) -> None:
        """Take a request in."""
        self.rows += rows
        self._requests[rows] += 1

    def leave(self, rows: int) -> None:
        """Let it go."""
        self.rows -= rows
        self._requests[rows] -= 1
        if not self._requests[rows]:
            del self._requests[rows]

    def place(self, rows: int, deadline: float) -> "Reservation":
        """Return a place in the line, to be held from now until the answer; raises as ``check`` does."""
        self.check(rows, deadline)
        return Reservation(self, rows)

    def moved(self, place: "Reservation", *, answered: bool) -> None:
        """Learn from a request that got to the end, or gave up: then it would have taken longer still."""
        pace = (perf_counter() - place.since) / place.ahead
        if answered or pace > self._pace:
            self._pace += _WEIGHT * (pace - self._pace) if self._pace else pace


class Reservation:
    """Some rows' place in a line, held as a context manager."""

    __slots__ = ("_line", "_rows", "ahead", "since")

    def __init__(self, line: WaitEstimate, rows: int) -> None:
        self._line = line
        self._rows = rows
        self.ahead = 0
        self.since = 0.0

    def __enter__(self) -> None:
        self.ahead = self._line.ahead_of(self._rows)
        self._line.enter(self._rows)
        self.since = perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._line.leave(self._rows)
        if kind is None or issubclass(kind, DeadlineExceeded | CancelledError):
            self._line.moved(self, answered=kind is None)
