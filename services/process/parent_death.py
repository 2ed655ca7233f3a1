"""Ends processes when the process that started them ends, for whatever reason.

The parent keeps the write end of a pipe that nothing is ever written to; a child inherits the read end. When the
parent ends, even if it is killed, the kernel closes its end and the child reads the end of the file. (Linux can also
send a signal when a parent dies, but binds it to the thread that started the child.)
"""

import os
import signal
import stat
import threading
import time

_gone = threading.Event()

VARIABLE = "CULTIVAR_SERVE_LIFELINE"
"""The environment variable with the descriptor of the child's end of the pipe."""


class ParentPipe:
    """The pipe, open as long as this object or the process exists."""

    def __init__(self) -> None:
        self.child_end, self._parent_end = os.pipe()

    def let_go(self) -> None:
        """Close both ends; children that wait for it end."""
        os.close(self.child_end)
        os.close(self._parent_end)


def hold_on(patience_s: float) -> None:
    """End this process when its parent ends: by SIGTERM, and then by SIGKILL.

    Does nothing if the parent passed no pipe.

    Args:
        patience_s: seconds between the two signals.
    """
    child_end = os.environ.pop(VARIABLE, "")
    if child_end.isdigit() and _is_pipe(int(child_end)):
        # Not inherited by this process's children: their parent is this process.
        os.set_inheritable(int(child_end), False)
        threading.Thread(
            target=_wait, args=(int(child_end), patience_s), name="parent-death", daemon=True
        ).start()


def parent_is_gone() -> bool:
    """Return whether the parent has ended; true before the SIGTERM that follows arrives.

    ``os.getppid`` changes too late: the kernel closes the files of an ending process before it gives its children
    another parent.
    """
    return _gone.is_set()


def _wait(child_end: int, patience_s: float) -> None:
    os.read(child_end, 1)
    _gone.set()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience_s)
    os.kill(os.getpid(), signal.SIGKILL)


def _is_pipe(number: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(number).st_mode)
    except OSError:
        return False
