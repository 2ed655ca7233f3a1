"""Processes that do not outlive the one that started them, however that one ends.

The parent keeps the writing end of a pipe that nothing is ever written to; a child inherits the
reading end. Where the parent is gone, killed too, the kernel closes its end and the child reads
the end of the file. (Linux can also send a signal when a parent dies, but ties it to the thread
that started the child.)
"""

import os
import signal
import stat
import threading
import time

_gone = threading.Event()

VARIABLE = "CULTIVAR_SERVE_LIFELINE"
"""Where a child finds the number of its end of the pipe."""


class ParentPipe:
    """The parent's end, held as long as this object is, or the process."""

    def __init__(self) -> None:
        self.child_end, self._parent_end = os.pipe()

    def let_go(self) -> None:
        """Give both ends back; children that hold on to it end."""
        os.close(self.child_end)
        os.close(self._parent_end)


def hold_on(patience_s: float) -> None:
    """End this process when its parent is gone: by SIGTERM, and where that does not help by SIGKILL.

    Does nothing where the parent gave no lifeline.

    Args:
        patience_s: seconds between the two.
    """
    child_end = os.environ.pop(VARIABLE, "")
    if child_end.isdigit() and _is_pipe(int(child_end)):
        # Not for the children's children: theirs is this process.
        os.set_inheritable(int(child_end), False)
        threading.Thread(
            target=_wait, args=(int(child_end), patience_s), name="parent-death", daemon=True
        ).start()


def parent_is_gone() -> bool:
    """Tell whether the parent that this process holds on to has ended, before it gets the SIGTERM that this sends.

    ``os.getppid`` comes too late: the kernel closes the files of a process that ends before it gives its children
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
