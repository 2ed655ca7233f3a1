"""How long the event loop stood still: the time in which no request of this process could go on."""

import asyncio
from collections import deque

from services.metrics import names

INTERVAL_S = 0.05
"""Between two checks; a stall is seen to this much."""

WINDOW_S = 60.0
"""The longest stall of so long is shown, so that a scrape a minute misses none."""


class StallMonitor:
    """Checks the running event loop until it is stopped, and shows the longest stall of the last minute."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # Stalls of the window, each longer than all after it: the first is the longest.
        self._longest: deque[tuple[float, float]] = deque()
        self._due = self._loop.time() + INTERVAL_S
        self._timer = self._loop.call_at(self._due, self._check)
        names.LOOP_STALL_SECONDS.set(0)

    def stop(self) -> None:
        """Check no more."""
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
