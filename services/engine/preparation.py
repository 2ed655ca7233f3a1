"""Inputs that are not rows yet: pictures to decode, texts to tokenize."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import IntEnum

from registry.errors import InputTooLarge
from services.engine.route import Arrays


class Effort(IntEnum):
    """How much work an input is, as far as its size tells."""

    SMALL = 0
    """A fraction of a millisecond."""
    MODERATE = 1
    """At most some tens of milliseconds."""
    LARGE = 2
    """More than that."""
    HUGE = 3
    """So much memory besides that one is prepared at a time."""


class EffortExceeded(InputTooLarge):
    """An input is more work than the worker that began with it takes on; not an error of the request.

    Attributes:
        effort: how much it is.
    """

    def __init__(self, effort: Effort) -> None:
        super().__init__(f"this input is {effort.name.lower()}")
        self.effort = effort


class Preparation(ABC):
    """The inputs of one request, and how they become rows; called from several threads."""

    __slots__ = ()

    @property
    @abstractmethod
    def small(self) -> bool:
        """Whether all of them together are likely to be ``SMALL``, without opening any."""

    @abstractmethod
    def __len__(self) -> int:
        """How many inputs there are, 1 or more."""

    @abstractmethod
    def prepare(self, index: int, most: Effort) -> Arrays:
        """Return one input as a row: for each field an array without the batch dimension.

        Args:
            index: which input.
            most: of the effort that may be spent.

        Raises:
            TooMuch: it takes more.
            InvalidInput: it cannot be prepared.
        """

    @abstractmethod
    def collate(self, rows: Sequence[Arrays]) -> Arrays:
        """Return rows as a batch: for each field an array, first dimension the rows."""
