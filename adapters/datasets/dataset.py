"""A dataset: examples with a fixed order of labels, divided into splits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from adapters.datasets.item import Item
from adapters.datasets.rows import DenseRows, PreparedRows
from registry.digests import Digest
from registry.errors import InvalidValue, WrongModality
from registry.manifest import CLASSIFICATION, MULTILABEL
from registry.recipe import Recipe

TRAIN = "train"
VALIDATION = "validation"
TEST = "test"
PIXELS = "pixels"
PARTS = (TRAIN, VALIDATION, TEST)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Examples, checked, prepared by a recipe and split.

    Attributes:
        name: its name, as the user wrote it (``example:digits``, a path).
        recipe: the recipe that prepared the rows.
        items: the examples in the order of their digests, each content once.
        labels: the target task's labels in the order of the logits; empty in unlabelled data.
        parts: positions in ``items`` (int64, ascending), by split; an empty split is absent.
        rows: each example as prepared by the recipe.
        excluded: number of excluded examples, by reason.
        remarks: number of examples that were kept but needed interpretation, by reason.
        notes: notes about the data for the user, one sentence each.
    """

    name: str
    recipe: Recipe
    items: tuple[Item, ...]
    labels: tuple[str, ...]
    parts: Mapping[str, np.ndarray]
    rows: PreparedRows
    excluded: Mapping[str, int] = field(default_factory=dict)
    remarks: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        taken = np.concatenate([np.zeros(0, np.int64), *self.parts.values()])
        if len(np.unique(taken)) != len(taken) or not set(self.parts) <= set(PARTS):
            raise InvalidValue(f"parts are {', '.join(PARTS)} and share no item")
        if len(self.rows) != len(self.items):
            raise InvalidValue(f"expected one row for each of {len(self.items)} items, got {len(self.rows)}")

    def __len__(self) -> int:
        return len(self.items)

    @property
    def digest(self) -> Digest:
        """Digest of contents and labels, independent of file names."""
        pairs = [[item.digest, _plain(item.label)] for item in self.items]
        return Digest.of_json({"items": pairs, "labels": list(self.labels)})

    @property
    def kind(self) -> str:
        """``multilabel`` if an example can have any number of labels, ``classification`` if it has one."""
        several = any(isinstance(item.label, tuple) for item in self.items)
        return MULTILABEL if several else CLASSIFICATION

    @property
    def pixels(self) -> np.ndarray:
        """Every picture, uint8 [N, H, W, C].

        Raises:
            WrongModality: these are texts.
        """
        if not isinstance(self.rows, DenseRows) or PIXELS not in self.rows.arrays:
            raise WrongModality(f"{self.name} holds no pictures")
        return self.rows.arrays[PIXELS]

    def index(self, *parts: str) -> np.ndarray:
        """Return the positions of these splits' examples, int64, ascending; absent splits are empty."""
        chosen = [self.parts[part] for part in parts if part in self.parts]
        return np.sort(np.concatenate([np.zeros(0, np.int64), *chosen]))

    def split(self, name: str) -> tuple[Item, ...]:
        """Return the examples of a split, in order; empty if there is no such split."""
        return tuple(self.items[position] for position in self.index(name))

    def targets(self, index: np.ndarray, labels: Sequence[str] | None = None) -> np.ndarray:
        """Return the label indices of the examples at these positions, int64 [N].

        For multilabel: indicators, uint8 [N, labels].

        Args:
            index: positions in ``items``.
            labels: the order of labels; by default the dataset's.

        Raises:
            InvalidValue: an example's label is not among them, or it has none.
        """
        numbers = {label: number for number, label in enumerate(self.labels if labels is None else labels)}
        several = self.kind == MULTILABEL
        try:
            mine = [[numbers[label] for label in self.items[at].labels] for at in index]
            if not several:
                return np.array([number for (number,) in mine], np.int64)
        except KeyError as error:
            raise InvalidValue(f"expected items labelled with one of {list(numbers)}, got {error}") from error
        except ValueError as error:
            raise InvalidValue("expected one label for each item, got an item without") from error
        targets = np.zeros((len(index), len(numbers)), np.uint8)
        for row, columns in zip(targets, mine, strict=True):
            row[columns] = 1
        return targets

    def split_digests(self) -> dict[str, tuple[Digest, ...]]:
        """Return the sorted example digests of each split, which a version stores."""
        return {name: tuple(sorted(item.digest for item in self.split(name))) for name in self.parts}

    def divided(self, parts: Mapping[str, np.ndarray]) -> Self:
        """Return the same examples in other splits; examples in none of them are ignored."""
        return replace(self, parts=parts)


def _plain(label: str | tuple[str, ...] | None) -> str | list[str] | None:
    return list(label) if isinstance(label, tuple) else label
