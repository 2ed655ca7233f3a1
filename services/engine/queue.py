"""The rows that wait for one root in one shape."""

from collections import deque

from services.engine.clock import Clock
from services.engine.request import Piece, Request
from services.engine.route import Route

HIGH, NORMAL, LOW = PRIORITIES = range(3)

_ADVANTAGE_S = (-5.0, 0.0, 5.0)
"""What a priority is worth in seconds of waiting: low ones are late, and never starve."""


class RootQueue:
    """The rows that wait for one root in one shape; the oldest first, priorities counted in.

    Args:
        root: a short name for messages and metrics.
        row_tokens: what one row weighs: 1, or the length of its text.
        lanes: batches that may be under way at once.

    Attributes:
        root: the short name.
        row_tokens: what one row weighs.
        rows: how many wait.
        clock: how long its batches take.
    """

    __slots__ = ("_levels", "clock", "root", "row_tokens", "rows")

    def __init__(self, root: str, row_tokens: int = 1, lanes: int = 1) -> None:
        self.root = root
        self.row_tokens = row_tokens
        self.rows = 0
        self.clock = Clock(lanes)
        self._levels: tuple[deque[Piece], ...] = tuple(deque() for _ in PRIORITIES)

    def put(self, request: Request, priority: int) -> None:
        """Add a request's rows."""
        self._levels[priority].append(Piece(request, 0, request.rows))
        self.rows += request.rows

    def oldest(self) -> float | None:
        """Return when the next piece came, its priority counted in, or None where nothing waits."""
        level = self._next()
        return None if level is None else _age(level, self._levels[level])

    def take(self, max_rows: int, now: float) -> tuple[list[Piece], list[Request]]:
        """Remove the next batch, of ``max_rows`` at most; a piece that is larger leaves a rest behind.

        Returns:
            The batch, and the requests met on the way whose deadline had passed.
        """
        batch: list[Piece] = []
        expired: list[Request] = []
        room = max_rows
        while room and (level := self._next()) is not None:
            pieces = self._levels[level]
            piece = pieces[0]
            request = piece.request
            if request.future.done() or request.deadline <= now:
                pieces.popleft()
                self.rows -= piece.rows
                if not request.future.done():
                    expired.append(request)
                continue
            if piece.rows <= room:
                pieces.popleft()
            else:
                pieces[0] = Piece(request, piece.start + room, piece.rows - room)
                piece = Piece(request, piece.start, room)
            self.rows -= piece.rows
            room -= piece.rows
            batch.append(piece)
        return batch, expired

    def next_route(self) -> Route | None:
        """Return the route of the piece that is next, or None where nothing waits."""
        level = self._next()
        return None if level is None else self._levels[level][0].request.route

    def drain(self) -> list[Request]:
        """Remove everything."""
        requests = [piece.request for pieces in self._levels for piece in pieces]
        for pieces in self._levels:
            pieces.clear()
        self.rows = 0
        return requests

    def _next(self) -> int | None:
        """Return the priority of the piece that is next."""
        best = None
        for level, pieces in enumerate(self._levels):
            if pieces and (best is None or _age(level, pieces) < _age(best, self._levels[best])):
                best = level
        return best


def _age(level: int, pieces: deque[Piece]) -> float:
    return pieces[0].request.queued_at + _ADVANTAGE_S[level]
