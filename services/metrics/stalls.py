"""Measures stalls of the event loop, in which no request of this process can proceed."""

import asyncio
from collections import deque

from services.metrics import names

INTERVAL_S = 0.05
"""Seconds between two checks, which is the resolution of stalls."""

WINDOW_S = 60.0
"""Seconds for which the longest stall is reported, so that one scrape per minute misses none."""


class StallMonitor:
    """Checks the running event loop until stopped, and reports the longest stall of the last minute."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # Stalls in the window, each longer than all later ones, so the first is the longest.
        self._longest: deque[tuple[float, float]] = deque()
        self._due = self._loop.time() + INTERVAL_S
        self._timer = self._loop.call_at(self._due, self._check)
        names.LOOP_STALL_SECONDS.set(0)

    def stop(self) -> None:
        """Stop checking."""
        self._timer.cancel()

    def _check(self) -> None:
        now = self._loop.time()
        late = now - self._due
        changed = False
        if late > INTERVAL_S:
            while self._longest and self._longest[-1][1] <= late:
                self._longest.pop()
            self._longest.append((now, late))
            changed = True
        while self._longest and now - self._longest[0][0] > WINDOW_S:
            self._longest.popleft()
            changed = True
        if changed:
            names.LOOP_STALL_SECONDS.set(self._longest[0][1] if self._longest else 0)
        self._due = now + INTERVAL_S
        self._timer = self._loop.call_at(self._due, self._check)
