"""Inputs to prepare before they are rows: pictures to decode, texts to tokenize."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import IntEnum

from registry.errors import InputTooLarge
from services.engine.route import Arrays


class Effort(IntEnum):
    """How much work an input is, judged by its size."""

    SMALL = 0
    """A fraction of a millisecond."""
    MODERATE = 1
    """At most some tens of milliseconds."""
    LARGE = 2
    """More than that."""
    HUGE = 3
    """Also so much memory that only one is prepared at a time."""


class EffortExceeded(InputTooLarge):
    """An input is more work than the worker that started it may do; not an error of the request.

    Attributes:
        effort: the effort it takes.
    """

    def __init__(self, effort: Effort) -> None:
        super().__init__(f"this input is {effort.name.lower()}")
        self.effort = effort


class Preparation(ABC):
    """Prepares the inputs of one request into rows; called from several threads."""

    __slots__ = ()

    @property
    @abstractmethod
    def small(self) -> bool:
        """Whether all inputs together are probably ``SMALL``, judged without opening any."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of inputs, 1 or more."""

    @abstractmethod
    def prepare(self, index: int, most: Effort) -> Arrays:
        """Return one input as a row: for each field an array without the batch dimension.

        Args:
            index: index of the input.
            most: the most effort allowed.

        Raises:
            EffortExceeded: it takes more.
            InvalidInput: it cannot be prepared.
        """

    @abstractmethod
    def collate(self, rows: Sequence[Arrays]) -> Arrays:
        """Return rows as a batch: for each field an array whose first dimension is the rows."""
