"""A request's rows, in as many pieces as batches take them."""

import asyncio
from typing import TypeAlias

import numpy as np

from services.engine.route import Arrays, Route

Answer: TypeAlias = "asyncio.Future[Arrays]"


class Request:
    """All the rows of one call, and where their outputs gather; all or nothing.

    Attributes:
        route: the way of its rows.
        fields: its rows, by field of the recipe.
        rows: how many.
        future: its answer.
        deadline: ``time.perf_counter()`` after which nobody waits any more.
        queued_at: when it came, on the same clock.
    """

    __slots__ = ("_left", "_parts", "deadline", "fields", "future", "queued_at", "route", "rows")

    def __init__(
        self, route: Route, fields: Arrays, rows: int, future: Answer, deadline: float, now: float
    ) -> None:
        self.route = route
        self.fields = fields
        self.rows = rows
        self.future = future
        self.deadline = deadline
        self.queued_at = now
        self._left = rows
        self._parts: list[tuple[int, Arrays]] = []

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


class Piece:
    """Some rows of a request that run together.

    Attributes:
        request: whose they are.
        start: the first of them in the request.
        rows: how many.
    """

    __slots__ = ("request", "rows", "start")

    def __init__(self, request: Request, start: int, rows: int) -> None:
        self.request = request
        self.start = start
        self.rows = rows

    def fields(self) -> Arrays:
        """Return these rows of every field."""
        fields = self.request.fields
        if self.rows == self.request.rows:
            return fields
        return {name: array[self.start : self.start + self.rows] for name, array in fields.items()}
