"""Where the time of an adaptation goes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from registry.progress import SILENT, Progress


class Phases:
    """Seconds spent in each named phase, in the order in which they began.

    Args:
        progress: is shown each phase while it lasts.
    """

    def __init__(self, progress: Progress = SILENT) -> None:
        self.seconds: dict[str, float] = {}
        self.progress = progress

    @contextmanager
    def phase(self, name: str, what: str) -> Iterator[None]:
        """Count the time that a block takes towards a phase.

        Args:
            name: of the phase.
            what: names the work for a person.
        """
        start = time.perf_counter()
        try:
            with self.progress.step(what):
                yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    @property
    def total(self) -> float:
        """Seconds in all phases together."""
        return sum(self.seconds.values())
