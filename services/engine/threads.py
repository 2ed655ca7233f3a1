"""The engine's worker threads: their roles and their work."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from services.engine.preparation import Effort
from services.engine.queue import RootQueue
from services.engine.request import Request, Waiting


@dataclass(frozen=True, slots=True)
class RunBatch:
    """A batch to run, after its unprepared rows are prepared."""

    queue: RootQueue
    pieces: Sequence[Waiting]


@dataclass(frozen=True, slots=True)
class PrepareInput:
    """An input of a request to prepare, or all of them if ``index`` is None, with at most some effort."""

    request: Request
    index: int | None
    most: Effort


Work: TypeAlias = RunBatch | PrepareInput


class Role(NamedTuple):
    """What a worker does.

    Attributes:
        runs: it runs batches.
        prepares: it prepares inputs.
        large: it also takes large inputs.
        quick: it does only small and cheap work.
    """

    runs: bool
    prepares: bool
    large: bool
    quick: bool = False


class WorkerThread:
    """The scheduler's record of one thread.

    Attributes:
        name: the thread's name.
        role: what it does.
        wake: notified when there may be work.
        work: its current work.
        alone: it runs alone on all cores.
    """

    __slots__ = ("alone", "name", "role", "wake", "work")

    def __init__(self, name: str, role: Role, lock: threading.Lock) -> None:
        self.name = name
        self.role = role
        self.wake = threading.Condition(lock)
        self.work: Work | None = None
        self.alone = False


def worker_threads(workers: int, preparing: int, lock: threading.Lock) -> list[WorkerThread]:
    """Return the workers; of several that prepare, the first takes no large inputs.

    Args:
        workers: number of workers that run batches.
        preparing: number of workers that only prepare inputs; with 0, the workers that run batches also prepare, and
            there is a quick worker.
        lock: the lock of their conditions.
    """
    if preparing:
        roles = [
            *((f"run-{n}", Role(True, False, False)) for n in range(workers)),
            *((f"prepare-{n}", Role(False, True, n > 0 or preparing == 1)) for n in range(preparing)),
        ]
    else:
        roles = [
            *((f"worker-{n}", Role(True, True, n > 0 or workers == 1)) for n in range(workers)),
            ("quick", Role(False, False, False, quick=True)),
        ]
    return [WorkerThread(name, role, lock) for name, role in roles]
