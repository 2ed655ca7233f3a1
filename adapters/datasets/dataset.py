"""A dataset: items with a fixed order of labels, divided into parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from adapters.datasets.item import Item
from registry.digests import Digest
from registry.errors import InvalidValue
from registry.recipe import Recipe

TRAIN = "train"
VALIDATION = "validation"
TEST = "test"
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
        rows: the recipe's fields, one row for each item: ``{"pixels": uint8 [N, H, W, C]}``.
        excluded: items that were left out, counted by reason.
        notes: what a person should know about the data, a sentence each.
    """

    name: str
    recipe: Recipe
    items: tuple[Item, ...]
    labels: tuple[str, ...]
    parts: Mapping[str, np.ndarray]
    rows: Mapping[str, np.ndarray]
    excluded: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        taken = np.concatenate([np.zeros(0, np.int64), *self.parts.values()])
        if len(np.unique(taken)) != len(taken) or not set(self.parts) <= set(PARTS):
            raise InvalidValue(f"parts are {', '.join(PARTS)} and share no item")
        if any(len(rows) != len(self.items) for rows in self.rows.values()):
            raise InvalidValue("expected one row of every field for each item")

    def __len__(self) -> int:
        return len(self.items)

    @property
    def digest(self) -> Digest:
        """Digest over contents and labels, whatever the files were called."""
        pairs = [[item.digest, item.label] for item in self.items]
        return Digest.of_json({"items": pairs, "labels": list(self.labels)})

    @property
    def pixels(self) -> np.ndarray:
        """Every picture, uint8 [N, H, W, C]."""
        return self.rows["pixels"]

    def index(self, *parts: str) -> np.ndarray:
        """Return the positions of the items of these parts, int64, ascending; absent parts are empty."""
        chosen = [self.parts[part] for part in parts if part in self.parts]
        return np.sort(np.concatenate([np.zeros(0, np.int64), *chosen]))

    def part(self, name: str) -> tuple[Item, ...]:
        """Return the items of a part, in order; none where there is no such part."""
        return tuple(self.items[position] for position in self.index(name))

    def targets(self, index: np.ndarray, labels: Sequence[str] | None = None) -> np.ndarray:
        """Return the label numbers, int64, of the items at these positions.

        Args:
            index: positions in ``items``.
            labels: the order to number by; by default the dataset's own.

        Raises:
            InvalidValue: an item's label is not among them, or it has none.
        """
        numbers = {label: number for number, label in enumerate(self.labels if labels is None else labels)}
        try:
            return np.array([numbers[self.items[at].label or ""] for at in index], np.int64)
        except KeyError as error:
            raise InvalidValue(f"expected items labelled with one of {list(numbers)}, got {error}") from error

    def part_digests(self) -> dict[str, tuple[Digest, ...]]:
        """Return the sorted item digests of each part: what a version stores of its data."""
        return {name: tuple(sorted(item.digest for item in self.part(name))) for name in self.parts}

    def divided(self, parts: Mapping[str, np.ndarray]) -> Self:
        """Return the same items in other parts; items in none of them are left aside."""
        return replace(self, parts=parts)
