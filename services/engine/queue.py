"""The queue of one root and shape."""

from collections import deque

from services.engine.latency_model import LatencyModel
from services.engine.request import Request, Unprepared, Waiting
from services.engine.route import Route

HIGH, NORMAL, LOW = PRIORITIES = range(3)

_ADVANTAGE_S = (-5.0, 0.0, 5.0)
"""Seconds of waiting that a priority adds or saves; so low priorities are delayed but never starve."""


class RootQueue:
    """The waiting rows of one root and shape, oldest first, adjusted by priority.

    A request with more rows than a batch goes to the end after each batch that it fills, so that others never wait
    for all of it.

    Args:
        root: a short name for messages and metrics.
        row_tokens: tokens of one row: 1, or the length of its text.
        workers: batches that may run at once.

    Attributes:
        root: the short name.
        row_tokens: tokens of one row.
        rows: number of waiting rows.
        unprepared: how many of them are unprepared.
        latency: the measured run times of its batches.
        in_loop: the event loop is about to run the waiting rows.
    """

    __slots__ = ("_levels", "in_loop", "latency", "root", "row_tokens", "rows", "unprepared")

    def __init__(self, root: str, row_tokens: int = 1, workers: int = 1) -> None:
        self.root = root
        self.row_tokens = row_tokens
        self.rows = 0
        self.unprepared = 0
        self.latency = LatencyModel(workers)
        self.in_loop = False
        self._levels: tuple[deque[Waiting], ...] = tuple(deque() for _ in PRIORITIES)

    def put(self, piece: Waiting) -> None:
        """Add rows at the end."""
        self._levels[piece.request.priority].append(piece)
        self._count(piece, 1)

    def put_first(self, piece: Waiting) -> None:
        """Put rows at the front that were taken before, or have waited elsewhere."""
        if isinstance(piece, Unprepared) and (others := self._others(piece.request)) is not None:
            self._remove(others)
            piece.indices = (*piece.indices, *others.indices)
        self._levels[piece.request.priority].appendleft(piece)
        self._count(piece, 1)

    def put_last(self, piece: Unprepared, now: float) -> None:
        """Put back rows that a request's turn was too short for: with its other rows, or else at the end."""
        others = self._others(piece.request)
        if others is None:
            piece.since = now
            self.put(piece)
        else:
            self._count(others, -1)
            others.indices = (*piece.indices, *others.indices)
            self._count(others, 1)

    def oldest(self) -> float | None:
        """Return since when the next piece waits, adjusted by its priority, or None if the queue is empty."""
        level = self._next()
        return None if level is None else _age(level, self._levels[level])

    def take(self, max_rows: int, now: float) -> tuple[list[Waiting], list[Request]]:
        """Remove the next batch, of ``max_rows`` at most; a larger piece is split.

        Returns:
            The batch, and the requests found past their deadline.
        """
        batch: list[Waiting] = []
        expired: list[Request] = []
        room = max_rows
        while room and (level := self._next()) is not None:
            pieces = self._levels[level]
            piece = pieces.popleft()
            self._count(piece, -1)
            request = piece.request
            if request.over or request.deadline <= now:
                if not request.over:
                    expired.append(request)
                continue
            if piece.rows > room:
                piece, rest = piece.cut(room)
                if room == max_rows and pieces:
                    rest.since = now
                    self.put(rest)
                else:
                    self.put_first(rest)
            room -= piece.rows
            batch.append(piece)
        return batch, expired

    def next_route(self) -> Route | None:
        """Return the route of the next piece, or None if the queue is empty."""
        level = self._next()
        return None if level is None else self._levels[level][0].request.route

    def drain(self) -> list[Request]:
        """Remove everything."""
        requests = [piece.request for pieces in self._levels for piece in pieces]
        for pieces in self._levels:
            pieces.clear()
        self.rows = self.unprepared = 0
        return requests

    def _count(self, piece: Waiting, sign: int) -> None:
        self.rows += sign * piece.rows
        if isinstance(piece, Unprepared):
            self.unprepared += sign * piece.rows

    def _others(self, request: Request) -> Unprepared | None:
        """Return a request's unprepared rows in this queue, which are always one piece."""
        for piece in self._levels[request.priority]:
            if piece.request is request and isinstance(piece, Unprepared):
                return piece
        return None

    def _remove(self, piece: Waiting) -> None:
        self._levels[piece.request.priority].remove(piece)
        self._count(piece, -1)

    def _next(self) -> int | None:
        """Return the priority of the next piece."""
        best = None
        for level, pieces in enumerate(self._levels):
            if pieces and (best is None or _age(level, pieces) < _age(best, self._levels[best])):
                best = level
        return best


def _age(level: int, pieces: deque[Waiting]) -> float:
    return pieces[0].since + _ADVANTAGE_S[level]
