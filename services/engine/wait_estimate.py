"""How long a new request waits: the rows ahead of it, and how fast they were answered lately.

Admission refuses a request that cannot be answered before its deadline. The estimate comes from past requests: one
with n rows ahead that was answered after t seconds took t/n seconds a row. That includes decoding, waiting and
running, and holds at any load (Little's law).
"""

from asyncio import CancelledError
from collections import Counter
from time import perf_counter

from services.errors import DeadlineExceeded, Overloaded

_WEIGHT = 0.1
"""Of a new measurement; a dozen or so make up the average."""

_MARGIN = 0.8
"""Share of the time left that a request may be expected to take: some take longer than expected."""

_CALM_S = 1.0
"""Seconds without a refusal after which an overload is over: clients that were refused have tried again by then."""


class WaitEstimate:
    """The admitted rows of one root that are not answered yet; used by one event loop.

    Args:
        longest_s: seconds that a new request may be expected to take, however late its deadline is. An overload is
            felt for as long after its end.
        short: rows up to which ``longest_s`` does not apply, as long as nothing was refused lately: as many rows as
            run together are no overload, however slow the model.

    Attributes:
        rows: how many.
    """

    __slots__ = ("_calm_at", "_longest_s", "_requests", "_row_s", "_short", "rows")

    def __init__(self, longest_s: float = float("inf"), short: int = 0) -> None:
        self.rows = 0
        self._requests: Counter[int] = Counter()
        self._longest_s = longest_s
        self._short = short
        self._row_s = 0.0
        self._calm_at = 0.0

    def check(self, rows: int, deadline: float) -> None:
        """Check that more rows can be answered in time, as far as is known.

        Args:
            rows: how many.
            deadline: ``time.perf_counter()`` after which nobody waits any more.

        Raises:
            Overloaded: they cannot, because of the rows ahead of them.
        """
        if not self.rows:
            return
        ahead = self.ahead_of(rows)
        now = perf_counter()
        allowed = deadline - now
        if self.rows + rows > self._short or now < self._calm_at:
            allowed = min(allowed, self._longest_s)
        if self._row_s * ahead > allowed * _MARGIN:
            self._calm_at = now + _CALM_S
            raise Overloaded("more waits already than can be done in time", "deadline")

    def ahead_of(self, rows: int) -> int:
        """Return the rows that run before the last of some more, these included.

        Requests take turns. So of each other request at most as many rows count as the new one has: a few requests of
        hundreds of rows do not keep out a request of one row.
        """
        return rows + sum(min(rows, others) * count for others, count in self._requests.items())

    def enter(self, rows: int) -> None:
        """Count a request's rows."""
        self.rows += rows
        self._requests[rows] += 1

    def leave(self, rows: int) -> None:
        """Count them no more."""
        self.rows -= rows
        self._requests[rows] -= 1
        if not self._requests[rows]:
            del self._requests[rows]

    def reserve(self, rows: int, deadline: float) -> "Reservation":
        """Return a reservation, to be held until the answer; raises as ``check`` does."""
        self.check(rows, deadline)
        return Reservation(self, rows)

    def learn(self, reservation: "Reservation", *, answered: bool) -> None:
        """Learn from a request that was answered, or gave up: its answer would have taken longer still."""
        row_s = (perf_counter() - reservation.since) / reservation.ahead
        if answered or row_s > self._row_s:
            self._row_s += _WEIGHT * (row_s - self._row_s) if self._row_s else row_s


class Reservation:
    """Some rows that count until they are answered; a context manager."""

    __slots__ = ("_estimate", "_rows", "ahead", "since")

    def __init__(self, estimate: WaitEstimate, rows: int) -> None:
        self._estimate = estimate
        self._rows = rows
        self.ahead = 0
        self.since = 0.0

    def __enter__(self) -> None:
        self.ahead = self._estimate.ahead_of(self._rows)
        self._estimate.enter(self._rows)
        self.since = perf_counter()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._estimate.leave(self._rows)
        if kind is None or issubclass(kind, DeadlineExceeded | CancelledError):
            self._estimate.learn(self, answered=kind is None)
