"""Splits: a hash of an example's content, or of its group, decides its split.

**The guarantee.** An example is held out for testing if its hash, as a number from 0 to 1, is below 0.2. That
depends only on the example or its group. So added rows never move other examples between splits, and groups
stay together. A content rule cannot also guarantee exactly a fifth of each label: if only the example
decides, the number held out of n examples is binomial, with a standard deviation of ``sqrt(0.16 / n)`` of the
label. If anything else decides, some added rows move other examples. So the share is a fifth on average, and
the actual share is reported when the data are loaded. There are two exceptions:

* if all units of a label would be held out, the one with the highest hash is used for training. Added rows
  can move it to the test split, where it belongs. In the other direction only a group can move, if it gains a
  label that no other unit has;
* if nothing at all would be held out, the unit with the lowest hash is, provided that its labels occur
  elsewhere. It moves back as soon as a row is added whose hash is below 0.2.

The validation split is taken from the rest by a second hash if the rest has 200 examples, and 10 per label.
It is used during training, so later comparisons do not depend on its boundary.
"""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from adapters.datasets.dataset import TEST, TRAIN, VALIDATION
from adapters.datasets.item import Item
from registry.errors import DatasetError

TEST_SHARE = 0.20
VALIDATION_SHARE = 0.15
"""Validation share of the examples not held out for testing: 12 % of the total."""

VALIDATION_MIN_ITEMS = 200
VALIDATION_MIN_PER_CLASS = 10


def divide(items: Sequence[Item], given: Sequence[str | None]) -> dict[str, np.ndarray]:
    """Return the positions of each split, int64, ascending.

    Args:
        items: the examples, each content once.
        given: for each example the split chosen by the user, or None.

    Raises:
        DatasetError: a class or the dataset has too few examples, a label is only in a held-out split, or a
            group is in several given splits.
    """
    sides = [part or TRAIN for part in given]
    if TEST not in sides:
        _hold_out(items, sides)
    _check_labels(items, sides)
    if VALIDATION not in sides:
        _validate(items, sides)
    _check_groups(items, sides)
    parts = {
        part: np.array([at for at, side in enumerate(sides) if side == part], np.int64)
        for part in (TRAIN, VALIDATION, TEST)
    }
    return {part: index for part, index in parts.items() if len(index)}


def _hold_out(items: Sequence[Item], sides: list[str]) -> None:
    """Move about a fifth of the training examples to the test split."""
    free = [at for at, side in enumerate(sides) if side == TRAIN]
    for label, members in _by_label(items, free).items():
        if len(members) < 2:
            what = "these data have" if label is None else f"the class {label!r} has"
            raise DatasetError(
                f"{what} one item ({items[members[0]].origin}), which cannot both be learnt from and tested "
                "on; add more, remove the class, or give a separate test part"
            )
    _carve(items, sides, free, TEST, TEST_SHARE)
    if TEST in sides:
        return
    spare = _spare(items, free)
    if not spare:
        raise DatasetError("there are too few items to hold any out; add more, or give a separate test part")
    lowest = min(spare, key=lambda unit: _fraction(TEST, unit))
    for at in free:
        if _unit(items[at]) == lowest:
            sides[at] = TEST


def _validate(items: Sequence[Item], sides: list[str]) -> None:
    """Move some training examples to the validation split if there are enough."""
    free = [at for at, side in enumerate(sides) if side == TRAIN]
    classes = len(_by_label(items, free))
    if len(free) >= max(VALIDATION_MIN_ITEMS, VALIDATION_MIN_PER_CLASS * classes):
        _carve(items, sides, free, VALIDATION, VALIDATION_SHARE)


def _carve(items: Sequence[Item], sides: list[str], free: Sequence[int], part: str, share: float) -> None:
    """Move the examples whose hash is below the share, but never all of a class."""
    units = {at: _unit(items[at]) for at in free}
    chosen = {unit for unit in units.values() if _fraction(part, unit) < share}
    # Whether a label keeps one must not depend on other labels, or an added row could change it.
    kept: set[str] = set()
    for members in _by_label(items, free).values():
        theirs = {units[at] for at in members}
        if theirs <= chosen:
            kept.add(max(theirs, key=lambda unit: _fraction(part, unit)))
    chosen -= kept
    for at in free:
        if units[at] in chosen:
            sides[at] = part


def _spare(items: Sequence[Item], free: Sequence[int]) -> list[str]:
    """Return the units without which every class still has examples."""
    units_of = [{_unit(items[at]) for at in members} for members in _by_label(items, free).values()]
    everything = set[str]().union(*units_of)
    alone = {next(iter(units)) for units in units_of if len(units) == 1}
    return sorted(everything - alone)


def _check_labels(items: Sequence[Item], sides: Sequence[str]) -> None:
    learnt = {
        label for item, side in zip(items, sides, strict=True) if side == TRAIN for label in labels_of(item)
    }
    if TRAIN not in sides:
        raise DatasetError("there is nothing to learn from: no item is in the training part")
    for item, side in zip(items, sides, strict=True):
        if unlearnt := [label for label in labels_of(item) if label not in learnt]:
            raise DatasetError(
                f"the label {unlearnt[0]!r} ({item.origin}) is in the {side} part only, so nothing could learn it; "
                "add training items, or take it out"
            )


def _check_groups(items: Sequence[Item], sides: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for item, side in zip(items, sides, strict=True):
        if item.group is not None and seen.setdefault(item.group, side) != side:
            raise DatasetError(
                f"the group {item.group!r} ({item.origin}) is in the {seen[item.group]} part and in the {side} "
                "part; a group belongs to one"
            )


def _by_label(items: Sequence[Item], index: Sequence[int]) -> Mapping[str | None, list[int]]:
    members: defaultdict[str | None, list[int]] = defaultdict(list)
    for at in index:
        for label in labels_of(items[at]):
            members[label].append(at)
    return members


def labels_of(item: Item) -> tuple[str | None, ...]:
    """Return the classes of an example: each of its labels; None in unlabelled data."""
    return (None,) if item.label is None else item.labels


def _unit(item: Item) -> str:
    """Return the key that decides an example's split: its group's name, or its own digest."""
    return item.digest if item.group is None else f"group:{item.group}"


def _fraction(salt: str, unit: str) -> float:
    """Return a unit's fixed number from 0 up to 1."""
    return int.from_bytes(hashlib.sha256(f"{salt}\n{unit}".encode()).digest()[:8]) / (1 << 64)
