"""A server looked at from outside, a few times a second: memory, file handles, CPU."""

import threading
import time
from pathlib import Path
from typing import Self

import numpy as np

from benchmarks.machine import busy_seconds, cpu_seconds, resident_bytes, tree

INTERVAL_S = 0.25


class Watch:
    """Samples all processes of a server from a thread, for as long as the block runs.

    Args:
        root: process id of the server's oldest process.
        interval_s: seconds between two looks.
    """

    def __init__(self, root: int, interval_s: float = INTERVAL_S) -> None:
        self._root = root
        self._interval_s = interval_s
        self._seen: list[tuple[float, float, float, float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def samples(self) -> np.ndarray:
        """What was seen so far: float64 [looks, 5].

        Columns are the moment (``time.monotonic()``), resident bytes, open file handles, CPU seconds of the
        server, CPU seconds of the whole machine.
        """
        return np.array(self._seen).reshape(-1, 5)

    def between(self, began: float, ended: float) -> np.ndarray:
        """Return the samples of a time."""
        samples = self.samples
        return samples[(samples[:, 0] >= began) & (samples[:, 0] <= ended)]

    def cores(self, began: float, ended: float) -> float:
        """Return how many cores the server kept busy in a time; its processes must not have ended in it."""
        samples = self.between(began, ended)
        return float((samples[-1, 3] - samples[0, 3]) / (samples[-1, 0] - samples[0, 0]))

    def _look(self) -> None:
        while not self._over.is_set():
            pids = tree(self._root)
            now = time.monotonic()
            self._seen.append((now, resident_bytes(pids), handles(pids), cpu_seconds(pids), busy_seconds()))
            self._over.wait(self._interval_s)


def handles(pids: list[int]) -> int:
    """Return how many file handles processes have open."""
    count = 0
    for pid in pids:
        try:
            count += sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return count
