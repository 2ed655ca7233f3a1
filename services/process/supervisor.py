"""What is added to the process in which BentoML supervises the workers.

BentoML leaves supervision to Circus, which looks after its processes every ten seconds, knows no
parent, and in a container leaves dead workers dead. Here a worker that died is replaced at once,
everywhere, so is one that stands still, and nothing outlives whoever started it.
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
"""With this BentoML would start no worker for one that died, and end with the last one."""


def supervise(patience_s: float, silence_s: float) -> None:
    """Prepare the supervising process, before BentoML starts its workers.

    Args:
        patience_s: seconds that the processes get to finish when the one above them is gone.
        silence_s: seconds without a sign of life after which a worker is replaced.

    Raises:
        RuntimeError: the Circus that is installed works otherwise than this relies on.
    """
    check_circus()
    # Circus would end all workers and start others. Children inherit this.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP,))
    hold_on(patience_s)
    parent_pipe = ParentPipe()
    os.set_inheritable(parent_pipe.child_end, True)
    # Circus hands this environment, and every inheritable file, to the workers.
    os.environ[VARIABLE] = str(parent_pipe.child_end)
    heartbeats = Heartbeats.make()
    os.environ[heartbeat.VARIABLE] = str(heartbeats.file)
    Watchdog(heartbeats, checks=ceil(silence_s / heartbeat.INTERVAL_S)).start()
    os.environ.pop(_IN_CONTAINER, None)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGCHLD, _a_worker_ended)


def _a_worker_ended(number: int, frame: FrameType | None) -> None:
    manage_processes_now()
