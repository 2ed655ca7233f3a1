"""Graceful shutdown: a worker announces its end before it stops answering.

Load balancers learn from ``/readyz`` that this server is about to end, and need a moment to notice. A server that
closed its listener on the first SIGTERM would refuse the requests sent in that moment.
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
"""Seconds within which a second SIGTERM is a duplicate: a service manager signals all processes of a service at once,
and the supervisor passes its own signal on."""


def leave_on_sigterm(delay_s: float, announce: Callable[[], None]) -> None:
    """Delay SIGTERM's present handler; called in the running event loop of the main thread.

    The first SIGTERM announces the end. The present handler runs after the delay, or at once if the parent is gone.
    A later SIGTERM, or any second one if the parent is gone, ends the process at once.

    Args:
        delay_s: seconds in which requests are still answered.
        announce: makes the server report that it is not ready.
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
        # Two signals before the interpreter handles one make one call, so a second call cannot be relied on.
        delay = 0.0 if parent_is_gone() else delay_s
        loop.call_soon_threadsafe(loop.call_later, delay, before, number, None)

    signal.signal(signal.SIGTERM, leave)
