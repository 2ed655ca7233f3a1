"""A worker's last seconds: it says that it is leaving before it does.

Whoever sends requests here learns from ``/readyz`` that this server is about to go, and needs a
moment to notice. A server that closed its listener on the first SIGTERM would refuse what is sent
in that moment.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from time import monotonic
from types import FrameType

from services.process.parent_death import parent_is_gone

_SAME_S = 2.0
"""Service managers signal every process of a service at once, and the supervisor passes its own signal on: that is one
word, heard twice."""


def leave_on_sigterm(delay_s: float, announce: Callable[[], None]) -> None:
    """Put ourselves before the handler that SIGTERM has; belongs to the running event loop of the main thread.

    The first SIGTERM announces, and is handed to that handler after the delay, or at once where the parent is gone.
    One that comes later ends the process at once, and so does any other where the parent is gone.

    Args:
        delay_s: seconds in which everything still answers.
        announce: makes readiness say no.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGTERM)
    if not callable(before):
        return
    first: float | None = None

    def leave(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if first is not None:
            if monotonic() - first > _SAME_S or parent_is_gone():
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        first = monotonic()
        announce()
        # Two signals that come before the interpreter heeds one are one call: the delay cannot wait for a second.
        delay = 0.0 if parent_is_gone() else delay_s
        loop.call_soon_threadsafe(loop.call_later, delay, before, number, None)

    signal.signal(signal.SIGTERM, leave)
