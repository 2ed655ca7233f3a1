"""How many requests a second a server sustains that do not wait for answers: rising rates, until one is too much.

A closed loop overestimates that: its requests come in bursts, as answers to a full batch do, and full
batches are cheaper for a row than those that a steady rate makes.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contender import Contender, say
from benchmarks.openloop import Phase, Records, Running
from benchmarks.spread import quantile

CONNECTIONS = 32
"""Of the closed loop."""
SHARES = tuple(tenths / 10 for tenths in range(3, 11))
"""Rates that are tried, in peaks of the closed loop; a tenth is how closely the capacity is known."""
TAIL_MS = 100.0
"""Where answers are faster than this, later ones are still no sign of a server that falls behind."""
ATTEMPTS = 2
"""A rate is too much where it was so often: other programs have their moments, too."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a server can do.

    Attributes:
        peak: rows a second of a closed loop of 32 connections.
        sustained: the highest rate of those that were tried, requests a second, that an open loop could hold.
    """

    peak: float
    sustained: float


def capacity(
    contender: Contender, kind: str, home: Path, peak_s: float, step_s: float, seed: int = 0
) -> Capacity:
    """Find both.

    Args:
        contender: the server.
        kind: of its requests.
        home: folder for records.
        peak_s: seconds of the closed loop.
        step_s: seconds of each rate that is tried.
        seed: of arrivals.

    Raises:
        SystemExit: it sustains not even the lowest rate.
    """
    closed = contender.load(kind, CONNECTIONS, peak_s)
    bound_ms = max(TAIL_MS, closed.p99_ms)

    def sustains(rate: float) -> bool:
        for attempt in range(ATTEMPTS):
            phases = [Phase(rate, step_s)]
            out = home / "capacity.npz"
            running = Running(contender.port, contender.requests[kind], phases, out, seed + attempt)
            try:
                records = running.records()
            finally:
                running.stop()
            if kept_up(records, bound_ms):
                return True
        return False

    sustained = climb([share * closed.rows_per_s for share in SHARES], sustains)
    if not sustained:
        sys.exit(
            f"expected {SHARES[0]:g} of the peak of {closed.rows_per_s:.0f} rows/s to be sustained; it was not"
        )
    say(f"peak: {closed.rows_per_s:.1f} rows/s in a closed loop; sustained in an open one: {sustained:.1f}")
    return Capacity(closed.rows_per_s, sustained)


def climb(rates: Sequence[float], sustains: Callable[[float], bool]) -> float:
    """Return the last of rising rates before the first that is too much; 0 where that is the first of all."""
    highest = 0.0
    for rate in rates:
        if not sustains(rate):
            break
        highest = rate
    return highest


def kept_up(records: Records, bound_ms: float) -> bool:
    """Return whether every request was answered 200 and all but a hundredth of them in time."""
    in_time = quantile(records.latencies_ms().tolist(), 0.99) <= bound_ms
    return in_time and bool((records.status == 200).all())
