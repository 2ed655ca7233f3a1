"""The sessions of one run. They compute the same; each suits another number of cores or batch size."""

from abc import ABC, abstractmethod

from registry.runtime import CUDA, Placed, Session, usable_providers
from registry.segments import Detached
from services.engine import batch_sizes

SPIN_US = 100
"""Microseconds that the threads of a run on all cores spin before they sleep.

ResNet-18 answers a request without others in 0.965 of the time for as much CPU. Threads that spin until the next
request take 8 % more (two cores, ONNX Runtime 1.31).
"""

_PLANNED = frozenset({"Conv", "ConvTranspose"})
"""Operators that cuDNN plans again whenever the input shape differs from the last one.

ONNX Runtime keeps one plan per node (microsoft/onnxruntime#23006).
"""


class SessionPool(ABC):
    """The sessions of one run."""

    @property
    @abstractmethod
    def providers(self) -> tuple[str, ...]:
        """Their execution providers, the preferred one first."""

    @property
    def wide(self) -> bool:
        """Whether one of them is for all cores."""
        return False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batch sizes that need their own warm-up."""
        return ()

    @abstractmethod
    def pick(self, size: int, *, alone: bool) -> Session:
        """Return the session for a run.

        Args:
            size: number of rows.
            alone: nothing else runs, so all cores are free.
        """


class PoolByCores(SessionPool):
    """One session for a run beside others, and one for a run alone on all cores.

    ONNX Runtime fixes a session's threads when it opens the session, and no number suits both a single request and
    full load (measured in docs/performance.md). With a GPU the CPU cores have little to do, so one session serves
    both.

    Args:
        model: the model that they run.
        name: its name in messages.
        threads: cores of a run beside others.
        cores: cores of a run that is alone.

    Raises:
        RuntimeFailure: ONNX Runtime refuses the model.
    """

    __slots__ = ("_narrow", "_wide")

    def __init__(self, model: Detached, name: str, *, threads: int, cores: int) -> None:
        self._narrow = Session(model, name=name, threads=threads)
        self._wide = self._narrow
        if cores > threads and self._narrow.providers[0] != CUDA:
            self._wide = Session(model, name=name, threads=cores, spin_us=SPIN_US)

    @property
    def providers(self) -> tuple[str, ...]:
        """Their execution providers, the preferred one first."""
        return self._narrow.providers

    @property
    def wide(self) -> bool:
        """Whether one of them is for all cores."""
        return self._wide is not self._narrow

    def pick(self, size: int, *, alone: bool) -> Session:
        """Return the session for all cores if the run is alone, else the other one."""
        return self._wide if alone else self._narrow


class PoolByBatchSize(SessionPool):
    """One session for each batch size, over one copy of the weights.

    On a GPU a session plans its convolutions again whenever the batch size changes: seven runs of ResNet-50, each of
    another size, took 1115 ms instead of 57 ms (docs/performance.md). A session that sees only one size plans once.

    Args:
        model: the model that they run.
        name: its name in messages.
        largest: rows of the largest batch.

    Raises:
        RuntimeFailure: ONNX Runtime refuses the model.
    """

    __slots__ = ("_of_size",)

    def __init__(self, model: Detached, name: str, *, largest: int) -> None:
        placed = Placed(model)
        top = batch_sizes.ceiling(min(largest, batch_sizes.LARGEST))
        self._of_size = {
            size: Session(placed, name=name, threads=1) for size in batch_sizes.SIZES if size <= top
        }

    @property
    def providers(self) -> tuple[str, ...]:
        """Their execution providers, the preferred one first."""
        return self._of_size[1].providers

    @property
    def sizes(self) -> tuple[int, ...]:
        """The batch sizes of the sessions, each of which needs its own warm-up."""
        return tuple(self._of_size)

    def pick(self, size: int, *, alone: bool) -> Session:
        """Return the session of a batch size; for larger batches, that of the largest size."""
        return self._of_size.get(size) or self._of_size[max(self._of_size)]


def open_pool(model: Detached, name: str, *, threads: int, cores: int, largest: int) -> SessionPool:
    """Open the sessions that a run needs on this device.

    Args:
        model: the model that they run.
        name: its name in messages.
        threads: cores of a run beside others.
        cores: cores of a run that is alone.
        largest: rows of the largest batch; 0 if batches have few sizes.

    Raises:
        InvalidSegment: the bytes are not a model.
        RuntimeFailure: ONNX Runtime refuses the model.
    """
    if largest and usable_providers()[0] == CUDA and not _PLANNED.isdisjoint(model.operators()):
        return PoolByBatchSize(model, name, largest=largest)
    return PoolByCores(model, name, threads=threads, cores=cores)
