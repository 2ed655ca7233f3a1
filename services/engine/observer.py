"""The interface by which the engine reports what it does."""

from collections.abc import Sequence
from typing import Protocol


class Observer(Protocol):
    """Notified of batches and queues; called from the engine's threads."""

    def batch(self, root: str, rows: int, waits_s: Sequence[float], run_s: float, heads_s: float) -> None:
        """A batch ran: its rows, the wait of each piece, and the run time without and of the linear heads."""
        ...

    def queued(self, root: str, rows: int) -> None:
        """The number of rows in a root's queue changed."""
        ...
