"""Values that gather in memory, and are written for Prometheus together.

With several workers prometheus-client keeps each value in a file that is mapped into memory; one
observation of a histogram takes longer to write there than a small answer takes to make. So
observations are appended to a queue, and a timer writes what gathered: one write for each bucket
that grew, however many observations.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
from prometheus_client import Counter, Gauge, Histogram

FLUSH_S = 0.25
"""What a killed worker's histograms may lack, in seconds."""


class Tally:
    """What one metric with its labels was told since it was last written.

    Args:
        write: writes values down; called from ``flush`` alone.

    Attributes:
        observe: takes one value, from any thread: an append, which is atomic.
    """

    __slots__ = ("_values", "_write", "observe")

    def __init__(self, write: Callable[[list[float]], None]) -> None:
        self._values: deque[float] = deque()
        self._write = write
        self.observe: Callable[[float], None] = self._values.append

    def flush(self) -> None:
        """Write down what gathered; one thread's business."""
        values = self._values
        if gathered := [values.popleft() for _ in range(len(values))]:
            self._write(gathered)


def written_through(child: Counter) -> Callable[[], None]:
    """Return what adds one to a counter, written before it returns; the event loop's business.

    By itself prometheus-client asks the system before every step whether the process was forked: that takes
    longer than the step. Workers never fork.
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
            # What `observe` does for each value, done for all at once; there is no public way.
            child._sum.inc(sum(values))
            counts = np.bincount(np.searchsorted(bounds, values))
            for place in np.flatnonzero(counts):
                child._buckets[place].inc(int(counts[place]))

        return self._keep(Tally(write))

    def of_counter(self, child: Counter) -> Tally:
        """Return a tally of increments."""
        return self._keep(Tally(lambda values: child.inc(sum(values))))

    def of_gauge(self, child: Gauge) -> Tally:
        """Return a tally of levels, of which the last one counts."""
        return self._keep(Tally(lambda values: child.set(values[-1])))

    def flush(self) -> None:
        """Write down everything that gathered; the event loop's business once ``start`` was called."""
        for tally in tuple(self._tallies):
            tally.flush()

    def start(self) -> None:
        """Begin to flush by a timer of the running event loop."""
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
        # First, so that whatever goes wrong below is logged four times a second and not once for all.
        self.start()
        self.flush()
