"""Extends the process in which BentoML supervises the workers.

BentoML leaves supervision to Circus. Circus checks its processes every ten seconds, does not watch its parent, and in
a container does not replace dead workers. With these extensions a worker that died or hangs is replaced at once, also
in a container, and no process outlives its parent.
"""

import os
import signal
import threading
from math import ceil
from types import FrameType

from services.process import heartbeat
from services.process.circus_arbiter import check_circus, manage_processes_now
from services.process.heartbeat import Heartbeats, Watchdog
from services.process.parent_death import VARIABLE, ParentPipe, hold_on

_IN_CONTAINER = "BENTOML_CONTAINERIZED"
"""With this variable BentoML does not replace workers that died, and ends with the last one."""


def supervise(patience_s: float, silence_s: float) -> None:
    """Prepare the supervising process, before BentoML starts its workers.

    Args:
        patience_s: seconds that the processes have to finish when their parent is gone.
        silence_s: seconds without a heartbeat after which a worker is replaced.

    Raises:
        RuntimeError: the installed version of Circus is not supported.
    """
    check_circus()
    # On SIGHUP Circus would replace all workers. Children inherit the mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP,))
    hold_on(patience_s)
    parent_pipe = ParentPipe()
    os.set_inheritable(parent_pipe.child_end, True)
    # Circus passes this environment, and every inheritable file, to the workers.
    os.environ[VARIABLE] = str(parent_pipe.child_end)
    heartbeats = Heartbeats.make()
    os.environ[heartbeat.VARIABLE] = str(heartbeats.file)
    Watchdog(heartbeats, checks=ceil(silence_s / heartbeat.INTERVAL_S)).start()
    os.environ.pop(_IN_CONTAINER, None)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, _a_worker_ended)


def _a_worker_ended(number: int, frame: FrameType | None) -> None:
    manage_processes_now()
