"""Durations of an adaptation's phases."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from registry.progress import SILENT, Progress


class Phases:
    """Seconds spent in each named phase, in order of their start.

    Args:
        progress: shows each phase while it runs.
    """

    def __init__(self, progress: Progress = SILENT) -> None:
        self.seconds: dict[str, float] = {}
        self.progress = progress

    @contextmanager
    def phase(self, name: str, what: str) -> Iterator[None]:
        """Add the duration of a block to a phase.

        Args:
            name: the phase.
            what: description of the work.
        """
        start = time.perf_counter()
        try:
            with self.progress.step(what):
                yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    @property
    def total(self) -> float:
        """Seconds in all phases."""
        return sum(self.seconds.values())
