"""Rows: a dataset's examples as prepared by the recipe, from which batches are taken."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from registry.errors import InvalidValue
from registry.recipe import Recipe


class PreparedRows(ABC):
    """Prepared examples, one row each."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Return the fields of some rows, int64 positions, first dimension the rows."""

    @abstractmethod
    def lengths(self, index: np.ndarray) -> np.ndarray:
        """Return the lengths of some rows, int64: tokens of a text, or 1 if all rows are equal."""

    @abstractmethod
    def take(self, order: np.ndarray) -> "PreparedRows":
        """Return a selection of rows, by int64 positions."""


@dataclass(frozen=True, slots=True, eq=False)
class DenseRows(PreparedRows):
    """Rows of one shape.

    Attributes:
        arrays: each field of all rows: ``{"pixels": uint8 [N, H, W, C]}``.
    """

    arrays: Mapping[str, np.ndarray]

    def __post_init__(self) -> None:
        if len({len(array) for array in self.arrays.values()}) != 1:
            raise InvalidValue("expected one or more fields, of as many rows each")

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def batch(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Return the fields of some rows."""
        return {name: array[index] for name, array in self.arrays.items()}

    def lengths(self, index: np.ndarray) -> np.ndarray:
        """Return ones."""
        return np.ones(len(index), np.int64)

    def take(self, order: np.ndarray) -> "DenseRows":
        """Return some rows."""
        return DenseRows({name: array[order] for name, array in self.arrays.items()})


@dataclass(frozen=True, slots=True, eq=False)
class RaggedRows(PreparedRows):
    """Rows of different lengths, concatenated.

    Attributes:
        recipe: pads the rows of a batch.
        flat: each field of all rows, [tokens of all].
        ends: where each row ends in them, int64 [N].
    """

    recipe: Recipe
    flat: Mapping[str, np.ndarray]
    ends: np.ndarray

    @classmethod
    def of(cls, recipe: Recipe, rows: Sequence[Mapping[str, np.ndarray]]) -> Self:
        """Join rows as the recipe prepared them."""
        names = [spec.name for spec in recipe.fields]
        ends = np.cumsum([len(row[names[0]]) for row in rows], dtype=np.int64)
        blank = np.zeros(0, np.int64)
        return cls(
            recipe, {name: np.concatenate([blank, *(row[name] for row in rows)]) for name in names}, ends
        )

    def __len__(self) -> int:
        return len(self.ends)

    def batch(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Return the fields of some rows, padded to one length."""
        return self.recipe.collate([self._row(at) for at in index])

    def lengths(self, index: np.ndarray) -> np.ndarray:
        """Return how many tokens each of some rows has."""
        starts = np.concatenate([[0], self.ends[:-1]])
        lengths: np.ndarray = (self.ends - starts)[index]
        return lengths

    def take(self, order: np.ndarray) -> "RaggedRows":
        """Return some rows."""
        return RaggedRows.of(self.recipe, [self._row(at) for at in order])

    def _row(self, at: int) -> dict[str, np.ndarray]:
        start = self.ends[at - 1] if at else 0
        return {name: values[start : self.ends[at]] for name, values in self.flat.items()}


@dataclass(frozen=True, slots=True, eq=False)
class CarriedRows(PreparedRows):
    """The frozen stages' outputs for each example, and the fields that the stages above need.

    Attributes:
        name: name of the output tensor.
        carried: the output for each row, float32 [...] or, for a text, [tokens, ...].
        below: the input rows, in the same order.
        ragged: whether the first dimension is the tokens, padded like the inputs.
    """

    name: str
    carried: Sequence[np.ndarray]
    below: PreparedRows
    ragged: bool

    def __len__(self) -> int:
        return len(self.below)

    def batch(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs for some rows, and their fields."""
        fields = self.below.batch(index)
        chosen = [self.carried[at] for at in index]
        if not self.ragged:
            return fields | {self.name: np.stack(chosen)}
        length = next(iter(fields.values())).shape[1]
        padded = np.zeros((len(chosen), length, *chosen[0].shape[1:]), chosen[0].dtype)
        for place, row in enumerate(chosen):
            padded[place, : len(row)] = row
        return fields | {self.name: padded}

    def lengths(self, index: np.ndarray) -> np.ndarray:
        """Return the lengths of the input rows."""
        return self.below.lengths(index)

    def take(self, order: np.ndarray) -> "CarriedRows":
        """Return some rows."""
        return CarriedRows(self.name, [self.carried[at] for at in order], self.below.take(order), self.ragged)
