"""Collects values in memory and writes them for Prometheus together.

With several workers prometheus-client keeps each value in a file that is mapped into memory. To write one observation
of a histogram there takes longer than to make a small answer. So observations are appended to a queue, and a timer
writes them: one write for each bucket that grew, however many observations.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from prometheus_client import Counter, Gauge, Histogram

FLUSH_S = 0.25
"""Seconds between two writes; a killed worker's histograms may miss as much."""


class Tally:
    """The values of one metric with its labels since the last write.

    Args:
        write: writes values; called only from ``flush``.

    Attributes:
        observe: adds one value, from any thread: an append, which is atomic.
    """

    __slots__ = ("_values", "_write", "observe")

    def __init__(self, write: Callable[[list[float]], None]) -> None:
        self._values: deque[float] = deque()
        self._write = write
        self.observe: Callable[[float], None] = self._values.append

    def flush(self) -> None:
        """Write the collected values; called from one thread only."""
        values = self._values
        if gathered := [values.popleft() for _ in range(len(values))]:
            self._write(gathered)


def written_through(child: Counter) -> Callable[[], None]:
    """Return a function that increments a counter and writes it at once; call it in the event loop.

    prometheus-client itself checks by a system call before every increment whether the process was forked, which takes
    longer than the increment. Workers never fork.
    """
    value: Any = child._value
    if not getattr(value, "_multiprocess", False):
        return child.inc

    def step() -> None:
        value._value += 1.0
        value._file.write_value(value._key, value._value, 0.0)

    return step


class Tallies:
    """Every tally of one process, and the timer that writes them."""

    def __init__(self) -> None:
        self._tallies: list[Tally] = []
        self._timer: asyncio.TimerHandle | None = None

    def of_histogram(self, child: Histogram) -> Tally:
        """Return a tally of observations."""
        bounds = np.array(child._upper_bounds)

        def write(values: list[float]) -> None:
            # What `observe` does for one value, done for all at once; there is no public function for it.
            child._sum.inc(sum(values))
            counts = np.bincount(np.searchsorted(bounds, values))
            for place in np.flatnonzero(counts):
                child._buckets[place].inc(int(counts[place]))

        return self._keep(Tally(write))

    def of_counter(self, child: Counter) -> Tally:
        """Return a tally of increments."""
        return self._keep(Tally(lambda values: child.inc(sum(values))))

    def of_gauge(self, child: Gauge) -> Tally:
        """Return a tally of gauge values, of which only the last is written."""
        return self._keep(Tally(lambda values: child.set(values[-1])))

    def flush(self) -> None:
        """Write all collected values; after ``start``, call it only in the event loop."""
        for tally in tuple(self._tallies):
            tally.flush()

    def start(self) -> None:
        """Start to flush by a timer of the running event loop."""
        self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._tick)

    def stop(self) -> None:
        """Stop the timer, and flush what is left."""
        if self._timer is not None:
            self._timer.cancel()
        self.flush()

    def _keep(self, tally: Tally) -> Tally:
        self._tallies.append(tally)
        return tally

    def _tick(self) -> None:
        # First, so that an error below does not stop the timer.
        self.start()
        self.flush()
