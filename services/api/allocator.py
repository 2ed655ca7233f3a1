"""Memory that nobody holds, given back to the system."""

import ctypes
import threading
import time
from contextlib import suppress

BETWEEN_S = 1.0


def give_memory_back() -> None:
    """Return to the system what nobody holds any more: 60 to 100 MiB after loading ResNet-18. Only glibc can."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class DelayedTrim:
    """Gives memory back some time after large bodies, once for all that came meanwhile.

    The allocator keeps what a thread has freed for that thread: some hundred mebibytes after a few bodies of 32.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = False

    def give_back(self) -> None:
        """Give back soon; returns at once."""
        with self._lock:
            if self._waiting:
                return
            self._waiting = True
        threading.Thread(target=self._give_back, name="give-back", daemon=True).start()

    def _give_back(self) -> None:
        time.sleep(BETWEEN_S)
        with self._lock:
            self._waiting = False
        give_memory_back()
