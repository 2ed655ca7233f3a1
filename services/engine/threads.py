"""The engine's worker threads: what each is for, and what it is given to do."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from services.engine.preparation import Effort
from services.engine.queue import RootQueue
from services.engine.request import Request, Waiting


@dataclass(frozen=True, slots=True)
class RunBatch:
    """A batch to run, once its unprepared rows are prepared."""

    queue: RootQueue
    pieces: Sequence[Waiting]


@dataclass(frozen=True, slots=True)
class PrepareInput:
    """An input of a request to prepare, or all of them where the index is None, within some effort."""

    request: Request
    index: int | None
    most: Effort


Work: TypeAlias = RunBatch | PrepareInput


class Role(NamedTuple):
    """What a worker does.

    Attributes:
        runs: it runs batches.
        prepares: it prepares inputs.
        large: large ones too.
        quick: it does only what is small and cheap.
    """

    runs: bool
    prepares: bool
    large: bool
    quick: bool = False


class WorkerThread:
    """One thread, as the scheduler knows it.

    Attributes:
        name: of the thread.
        role: what it does.
        wake: notified when there may be something to do.
        work: what it does at the moment.
        alone: nothing else runs beside it.
    """

    __slots__ = ("alone", "name", "role", "wake", "work")

    def __init__(self, name: str, role: Role, lock: threading.Lock) -> None:
        self.name = name
        self.role = role
        self.wake = threading.Condition(lock)
        self.work: Work | None = None
        self.alone = False


def worker_threads(workers: int, preparing: int, lock: threading.Lock) -> list[WorkerThread]:
    """Return the workers; of several that prepare the first takes no large inputs.

    Args:
        workers: how many run batches.
        preparing: how many only prepare inputs; where there are none, those that run batches do, and one more does
            what is quick.
        lock: what they wait with.
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
