"""Connections to PostgreSQL that give up on a server that does not answer.

libpq's options bound the time to connect, and the time until sent data are acknowledged. A server that hangs, or a
proxy before it, acknowledges what it never answers. PostgreSQL's ``statement_timeout`` is counted by the server, so it
does not help either.
"""

from collections.abc import Generator
from time import monotonic
from typing import Any, TypeVar

import psycopg

_R = TypeVar("_R")


class PatientConnection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that fails, and is closed, when the server sends nothing for a while.

    Attributes:
        patience_s: seconds without a byte from the server after which a statement fails.
    """

    patience_s: float

    def wait(self, gen: Generator[Any, Any, _R], *arguments: Any, **options: Any) -> _R:
        """Wait for an operation on the connection.

        Raises:
            psycopg.OperationalError: the server sent nothing for ``patience_s``.
        """
        return super().wait(self._bounded(gen), *arguments, **options)

    def _bounded(self, steps: Generator[Any, Any, _R]) -> Generator[Any, Any, _R]:
        heard = monotonic()
        try:
            wanted = next(steps)
            while True:
                ready = yield wanted  # false at every interval without an event
                if ready:
                    heard = monotonic()
                elif monotonic() - heard > self.patience_s:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"the server has not answered for {self.patience_s:g} s")
                wanted = steps.send(ready)
        except StopIteration as end:
            result: _R = end.value
            return result
