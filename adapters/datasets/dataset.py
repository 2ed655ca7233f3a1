"""A dataset: items with a fixed order of labels, divided into parts."""

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
    """Examples that were read, checked, prepared by a recipe and divided.

    Attributes:
        name: what the user called it (``example:digits``, a path).
        recipe: what the rows were prepared by.
        items: in the order of their digests, each content once.
        labels: the target task's labels in the order of the logits; empty in unlabelled data.
        parts: positions in ``items`` (int64, ascending), by part; a part without items is absent.
        rows: what the recipe made of each item.
        excluded: items that were left out, counted by reason.
        remarks: items that were kept and yet not read plainly, counted by reason.
        notes: what a person should know about the data, a sentence each.
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
        """Digest over contents and labels, whatever the files were called."""
        pairs = [[item.digest, _plain(item.label)] for item in self.items]
        return Digest.of_json({"items": pairs, "labels": list(self.labels)})

    @property
    def kind(self) -> str:
        """``multilabel`` where an item has any number of labels, ``classification`` where it has one."""
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
        """Return the positions of the items of these parts, int64, ascending; absent parts are empty."""
        chosen = [self.parts[part] for part in parts if part in self.parts]
        return np.sort(np.concatenate([np.zeros(0, np.int64), *chosen]))

    def split(self, name: str) -> tuple[Item, ...]:
        """Return the items of a part, in order; none where there is no such part."""
        return tuple(self.items[position] for position in self.index(name))

    def targets(self, index: np.ndarray, labels: Sequence[str] | None = None) -> np.ndarray:
        """Return the label numbers of the items at these positions, int64 [N].

        Where items have several labels: ones and zeros, uint8 [N, labels].

        Args:
            index: positions in ``items``.
            labels: the order to number by; by default the dataset's own.

        Raises:
            InvalidValue: an item's label is not among them, or it has none.
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
        """Return the sorted item digests of each part: what a version stores of its data."""
        return {name: tuple(sorted(item.digest for item in self.split(name))) for name in self.parts}

    def divided(self, parts: Mapping[str, np.ndarray]) -> Self:
        """Return the same items in other parts; items in none of them are left aside."""
        return replace(self, parts=parts)


def _plain(label: str | tuple[str, ...] | None) -> str | list[str] | None:
    return list(label) if isinstance(label, tuple) else label
