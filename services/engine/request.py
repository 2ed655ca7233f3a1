"""A request to the engine, and the pieces in which batches take its rows."""

import asyncio
from collections.abc import Sequence
from threading import Lock
from typing import TypeAlias

import numpy as np

from registry.errors import CultivarError
from services.engine.preparation import Preparation
from services.engine.route import Arrays, Route

Answer: TypeAlias = "asyncio.Future[Arrays]"


class Request:
    """All rows of one call, and their outputs. It succeeds or fails as a whole.

    Attributes:
        route: the route of its rows.
        rows: number of rows.
        future: its answer.
        deadline: ``time.perf_counter()`` after which the client no longer waits.
        queued_at: when it arrived, on the same clock.
        priority: ``HIGH``, ``NORMAL`` or ``LOW``.
        preparation: its unprepared inputs; None where it arrived as rows.
    """

    __slots__ = (
        "_left", "_parts", "_prepared", "deadline", "future", "preparation", "priority", "queued_at", "route", "rows"
    )  # fmt: skip

    def __init__(
        self,
        route: Route,
        rows: int,
        future: Answer,
        deadline: float,
        now: float,
        priority: int,
        preparation: Preparation | None = None,
    ) -> None:
        self.route = route
        self.rows = rows
        self.future = future
        self.deadline = deadline
        self.queued_at = now
        self.priority = priority
        self.preparation = preparation
        self._left = rows
        self._parts: list[tuple[int, Arrays]] = []
        self._prepared: Prepared | None = None

    def __len__(self) -> int:
        return self.rows

    @property
    def over(self) -> bool:
        """Whether it was answered or withdrawn."""
        return self.future.done()

    @property
    def prepared(self) -> "Prepared | None":
        """Collects its rows until all of them are prepared; None where each may run alone."""
        return self._prepared

    def gather(self) -> None:
        """Run its rows only once all of them are prepared, as their common shape depends on all."""
        self._prepared = Prepared(self.rows)

    def settle(self, start: int, rows: int, outputs: Arrays) -> None:
        """Add the outputs of some rows; the last ones complete the answer."""
        if rows == self.rows:
            if not self.future.done():
                self.future.set_result(outputs)
            return
        self._left -= rows
        self._parts.append((start, outputs))
        if not self._left and not self.future.done():
            self.future.set_result(self._whole())

    def fail(self, error: Exception) -> None:
        """Fail the whole request.

        A refusal loses its traceback: the frames lead back to this request, which then would be kept with its inputs
        until the garbage collector runs.
        """
        if not self.future.done():
            if isinstance(error, CultivarError):
                _forget_frames(error)
            self.future.set_exception(error)

    def _whole(self) -> dict[str, np.ndarray]:
        self._parts.sort(key=lambda part: part[0])
        parts = [outputs for _, outputs in self._parts]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _forget_frames(error: BaseException) -> None:
    """Remove the tracebacks of an error, and of those that it came from."""
    each: BaseException | None = error
    while each is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__


class Prepared:
    """The prepared rows of a request so far; filled from several threads."""

    __slots__ = ("_left", "_lock", "_rows")

    def __init__(self, rows: int) -> None:
        self._rows: list[Arrays] = [{}] * rows
        self._left = rows
        self._lock = Lock()

    def add(self, index: int, row: Arrays) -> list[Arrays] | None:
        """Add a row; return all rows if it was the last."""
        with self._lock:
            self._rows[index] = row
            self._left -= 1
            return None if self._left else self._rows


class Piece:
    """Some rows of a request that run together.

    Attributes:
        request: their request.
        start: the index of the first one in the request.
        rows: number of rows.
        fields: the rows themselves.
        since: when they started to wait, on ``time.perf_counter()``'s clock.
    """

    __slots__ = ("fields", "request", "rows", "since", "start")

    def __init__(self, request: Request, start: int, rows: int, fields: Arrays, since: float) -> None:
        self.request = request
        self.start = start
        self.rows = rows
        self.fields = fields
        self.since = since

    def cut(self, rows: int) -> "tuple[Piece, Piece]":
        """Return its first rows, fewer than it has, and the rest."""
        first = {name: array[:rows] for name, array in self.fields.items()}
        last = {name: array[rows:] for name, array in self.fields.items()}
        return (
            Piece(self.request, self.start, rows, first, self.since),
            Piece(self.request, self.start + rows, self.rows - rows, last, self.since),
        )


class Unprepared:
    """Some rows of a request whose inputs are prepared by the worker that runs them.

    Attributes:
        request: their request.
        indices: indices of the inputs in the request.
        since: when they started to wait, on ``time.perf_counter()``'s clock.
    """

    __slots__ = ("indices", "request", "since")

    def __init__(self, request: Request, indices: Sequence[int], since: float) -> None:
        self.request = request
        self.indices = indices
        self.since = since

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.indices)

    def cut(self, rows: int) -> "tuple[Unprepared, Unprepared]":
        """Return its first rows, fewer than it has, and the rest."""
        first, last = self.indices[:rows], self.indices[rows:]
        return Unprepared(self.request, first, self.since), Unprepared(self.request, last, self.since)


Waiting: TypeAlias = Piece | Unprepared
