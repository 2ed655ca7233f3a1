"""A request's rows, in as many pieces as batches take them."""

import asyncio
from collections.abc import Sequence
from threading import Lock
from typing import TypeAlias

import numpy as np

from services.engine.preparation import Preparation
from services.engine.route import Arrays, Route

Answer: TypeAlias = "asyncio.Future[Arrays]"


class Request:
    """All the rows of one call, and where their outputs gather; all or nothing.

    Attributes:
        route: the way of its rows.
        rows: how many.
        future: its answer.
        deadline: ``time.perf_counter()`` after which nobody waits any more.
        queued_at: when it came, on the same clock.
        priority: ``HIGH``, ``NORMAL`` or ``LOW``.
        preparation: the inputs that its rows are made of; None where they came as rows.
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
        """Whether nobody waits for it any more: it was answered, or withdrawn."""
        return self.future.done()

    @property
    def prepared(self) -> "Prepared | None":
        """Where its rows gather until all of them are prepared; None where each may run by itself."""
        return self._prepared

    def gather(self) -> None:
        """Let its rows run only when all of them are prepared: their shape depends on one another."""
        self._prepared = Prepared(self.rows)

    def settle(self, start: int, rows: int, outputs: Arrays) -> None:
        """Take the outputs of some rows; the last ones complete the answer."""
        if rows == self.rows:
            if not self.future.done():
                self.future.set_result(outputs)
            return
        self._left -= rows
        self._parts.append((start, outputs))
        if not self._left and not self.future.done():
            self.future.set_result(self._whole())

    def fail(self, error: Exception) -> None:
        """Fail the whole request."""
        if not self.future.done():
            self.future.set_exception(error)

    def _whole(self) -> dict[str, np.ndarray]:
        self._parts.sort(key=lambda part: part[0])
        parts = [outputs for _, outputs in self._parts]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class Prepared:
    """The rows of a request that are prepared so far; filled from several threads."""

    __slots__ = ("_left", "_lock", "_rows")

    def __init__(self, rows: int) -> None:
        self._rows: list[Arrays] = [{}] * rows
        self._left = rows
        self._lock = Lock()

    def add(self, index: int, row: Arrays) -> list[Arrays] | None:
        """Take a row; return all of them if it was the last."""
        with self._lock:
            self._rows[index] = row
            self._left -= 1
            return None if self._left else self._rows


class Piece:
    """Some rows of a request that run together.

    Attributes:
        request: whose they are.
        start: the first of them in the request.
        rows: how many.
        fields: the rows themselves.
        since: when they began to wait, on ``time.perf_counter()``'s clock.
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
    """Some rows of a request whose inputs are to be prepared by whoever runs them.

    Attributes:
        request: whose they are.
        indices: of the inputs in the request.
        since: when they began to wait, on ``time.perf_counter()``'s clock.
    """

    __slots__ = ("indices", "request", "since")

    def __init__(self, request: Request, indices: Sequence[int], since: float) -> None:
        self.request = request
        self.indices = indices
        self.since = since

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.indices)

    def cut(self, rows: int) -> "tuple[Unprepared, Unprepared]":
        """Return its first rows, fewer than it has, and the rest."""
        first, last = self.indices[:rows], self.indices[rows:]
        return Unprepared(self.request, first, self.since), Unprepared(self.request, last, self.since)


Waiting: TypeAlias = Piece | Unprepared
