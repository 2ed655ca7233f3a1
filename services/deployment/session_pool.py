"""The sessions of one run: they compute the same, and each is best at something else."""

from abc import ABC, abstractmethod

from registry.runtime import CUDA, Placed, Session, usable_providers
from registry.segments import Detached
from services.engine import batch_sizes

SPIN_US = 100
"""For which the threads of a run on all cores wait awake for its next part.

ResNet-18 answers a lonely request in 0.965 of the time for as much CPU; threads that stay awake until the next request
take 8 % more (two cores, ONNX Runtime 1.31).
"""

_PLANNED = frozenset({"Conv", "ConvTranspose"})
"""Operators that ONNX Runtime asks cuDNN to plan whenever the shape of what comes differs from the last one's.

It keeps one plan a node (microsoft/onnxruntime#23006).
"""


class SessionPool(ABC):
    """The sessions of one run."""

    @property
    @abstractmethod
    def providers(self) -> tuple[str, ...]:
        """Where they run, the preferred provider first."""

    @property
    def wide(self) -> bool:
        """Whether one of them is for all cores."""
        return False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of a run before which each of them has to be warmed apart."""
        return ()

    @abstractmethod
    def pick(self, size: int, *, alone: bool) -> Session:
        """Return the session for a run of some rows.

        Args:
            size: how many rows.
            alone: nothing else runs, so all cores are free.
        """


class PoolByCores(SessionPool):
    """One session for a run among others, and one for a run on all cores.

    ONNX Runtime settles a session's threads when it opens it, and neither number is best for both a lonely
    request and full load (the figures are in docs/performance.md). On a GPU the cores have next to nothing to
    do, so there one session is both.

    Args:
        model: what they run.
        name: what it is called in messages.
        threads: cores of one run among others.
        cores: cores of one run that is alone.

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
        """Where they run, the preferred provider first."""
        return self._narrow.providers

    @property
    def wide(self) -> bool:
        """Whether one of them is for all cores."""
        return self._wide is not self._narrow

    def pick(self, size: int, *, alone: bool) -> Session:
        """Return the session for as many cores as are free."""
        return self._wide if alone else self._narrow


class PoolByBatchSize(SessionPool):
    """One session for each size of a batch, over one copy of the weights.

    On a GPU a session with convolutions plans them anew whenever its batch has another size than the one
    before: seven runs of ResNet-50, each of another size, took 1115 ms in the place of 57
    (docs/performance.md). Whoever sees one size only never does.

    Args:
        model: what they run.
        name: what it is called in messages.
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
        """Where they run, the preferred provider first."""
        return self._of_size[1].providers

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes that there are."""
        return tuple(self._of_size)

    def pick(self, size: int, *, alone: bool) -> Session:
        """Return the session of a size; that of the largest for what is larger."""
        return self._of_size.get(size) or self._of_size[max(self._of_size)]


def open_pool(model: Detached, name: str, *, threads: int, cores: int, largest: int) -> SessionPool:
    """Open the sessions that a run needs where it runs.

    Args:
        model: what they run.
        name: what it is called in messages.
        threads: cores of one run among others.
        cores: cores of one run that is alone.
        largest: rows of the largest batch; 0 where batches have few sizes anyhow.

    Raises:
        InvalidSegment: the bytes are not a model.
        RuntimeFailure: ONNX Runtime refuses the model.
    """
    if largest and usable_providers()[0] == CUDA and not _PLANNED.isdisjoint(model.operators()):
        return PoolByBatchSize(model, name, largest=largest)
    return PoolByCores(model, name, threads=threads, cores=cores)
