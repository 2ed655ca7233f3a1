"""Removal of labels with too few examples, before the dataset is split."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from adapters.datasets.dataset import TEST
from adapters.datasets.item import Item
from registry.errors import DatasetError
from registry.quoting import several

RARE = "label with too few examples"


@dataclass(frozen=True, slots=True)
class Frequent:
    """Examples after the removal of rare labels.

    Attributes:
        items: each example unchanged or with fewer labels; None if its only label was rare.
        excluded: number of excluded examples, by reason.
        remarks: number of dropped labels, by reason.
        example: the rare labels, for a note; empty if there are none.
    """

    items: tuple[Item | None, ...]
    excluded: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)
    example: str = ""


def frequent(items: Sequence[Item], given: Sequence[str | None], least: int) -> Frequent:
    """Drop labels with fewer than ``least`` examples.

    An example whose only label is dropped is excluded. A multilabel example keeps its other labels, and stays
    even without any.

    Args:
        items: each content once.
        given: for each example the split chosen by the user, or None; test examples do not count.
        least: fewest examples of a label, 1 or more; 0 drops none.

    Raises:
        DatasetError: no label has as many examples.
    """
    counts = Counter({label: 0 for item in items for label in item.labels})
    counts.update(
        label for item, split in zip(items, given, strict=True) if split != TEST for label in item.labels
    )
    rare = {label for label, count in counts.items() if count < least}
    if not rare:
        return Frequent(tuple(items))
    if len(rare) == len(counts):
        label, most = min(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        raise DatasetError(
            f"expected a label that at least {least} examples have; the most frequent one, {label!r}, has {most}; "
            "lower the least count, or add examples"
        )
    kept = tuple(_without(item, rare) for item in items)
    gone = kept.count(None)
    return Frequent(
        kept,
        Counter({f"{RARE}, fewer than {least}": gone} if gone else {}),
        Counter({f"labels dropped, fewer than {least} examples": len(rare)}),
        several(sorted(f"{label!r} has {counts[label]}" for label in rare)),
    )


def _without(item: Item, rare: set[str]) -> Item | None:
    if isinstance(item.label, tuple):
        left = tuple(label for label in item.label if label not in rare)
        return item if left == item.label else replace(item, label=left)
    return None if item.label in rare else item
