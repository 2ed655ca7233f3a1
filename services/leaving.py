"""A worker's last seconds: it says that it is leaving before it does.

Whoever sends requests here learns from ``/readyz`` that this server is about to go, and needs a
moment to notice. A server that closed its listener on the first SIGTERM would refuse what is sent
in that moment.
"""

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType


def leave_on_sigterm(delay_s: float, announce: Callable[[], None]) -> None:
    """Put ourselves before the handler that SIGTERM has; belongs to the running event loop of the main thread.

    The first SIGTERM announces, and is handed to that handler after the delay. The second one ends the
    process at once.

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

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        announce()
        loop.call_soon_threadsafe(loop.call_later, delay_s, before, number, None)

    signal.signal(signal.SIGTERM, leave)
