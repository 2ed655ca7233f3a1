"""Whoever wants to know what the engine does."""

from collections.abc import Sequence
from typing import Protocol


class Observer(Protocol):
    """Told of every batch and queue; called from the engine's threads."""

    def batch(self, root: str, rows: int, waits_s: Sequence[float], run_s: float, heads_s: float) -> None:
        """A batch ran: its rows, how long each part of it waited, how long it ran, linear heads apart."""
        ...

    def queued(self, root: str, rows: int) -> None:
        """The number of rows that wait for a root changed."""
        ...
