"""Labels that too few examples have, taken out before anything is divided."""

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
    """What is left of some items once rare labels are taken out.

    Attributes:
        items: each as it was, or with fewer labels; None where its only label was rare.
        excluded: items that are left out, counted by reason.
        remarks: labels that were dropped, counted by reason.
        example: the rare labels, for a note; empty where there are none.
    """

    items: tuple[Item | None, ...]
    excluded: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)
    example: str = ""


def frequent(items: Sequence[Item], given: Sequence[str | None], least: int) -> Frequent:
    """Drop the labels that fewer than ``least`` items have.

    An item whose only label is dropped is left out; one that may have any number of labels keeps the
    others, and stays where none is left.

    Args:
        items: each content once.
        given: for each item the split that the user put it in, or None; those in the test split do not count.
        least: items that a label needs, 1 or more; 0 drops none.

    Raises:
        DatasetError: no label has as many.
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
