"""Which split an item is in: decided by a hash of its content, or of its group.

**The guarantee.** An item is held out for testing where its hash, as a number from 0 to 1, is below
a fifth: that depends on the item alone (or its group), so rows that are added never move another one
across, and whatever belongs together stays together. No rule by content can promise that *and* an
exact fifth of each label: if nothing but the item decides, the count of a label of n items scatters as a
binomial's does, with a standard deviation of ``sqrt(0.16 / n)`` of the label. If anything else decides,
there are rows whose coming moves another item. So the share is a fifth on average, what it came to is
said when the data are loaded, and two cases alone bend the rule:

* of a label whose units would all be held out, the one with the highest hash is trained on. Rows
  that are added can bring it to the test split, where it belongs. The other way only a group moves
  that gains a label which no other unit has;
* where nothing at all would be held out, the unit with the lowest hash is, if its labels can spare it.
  It goes back as soon as a row is added whose hash is below a fifth.

The validation split is cut out of the rest by a second hash as soon as that rest has 200 items, and
10 for each label. It is used while training, so its boundary is not one that later comparisons
depend on.
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
"""Of what is not held out for testing: 12 % of the whole."""

VALIDATION_MIN_ITEMS = 200
VALIDATION_MIN_PER_CLASS = 10


def divide(items: Sequence[Item], given: Sequence[str | None]) -> dict[str, np.ndarray]:
    """Return the positions of each part, int64, ascending.

    Args:
        items: each content once.
        given: for each item the part that the user put it in, or None.

    Raises:
        DatasetError: a class or the whole has too few items, a label is in a held-out part only,
            or a group is in several given parts.
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
    """Move about a fifth of the training items to the test split."""
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
    """Move some of the training items to a validation part, where there are enough."""
    free = [at for at, side in enumerate(sides) if side == TRAIN]
    classes = len(_by_label(items, free))
    if len(free) >= max(VALIDATION_MIN_ITEMS, VALIDATION_MIN_PER_CLASS * classes):
        _carve(items, sides, free, VALIDATION, VALIDATION_SHARE)


def _carve(items: Sequence[Item], sides: list[str], free: Sequence[int], part: str, share: float) -> None:
    """Move the items whose hash is below the share, but never all of a class."""
    units = {at: _unit(items[at]) for at in free}
    chosen = {unit for unit in units.values() if _fraction(part, unit) < share}
    # Whether a label keeps one must not depend on what another one keeps, or an added row could take that away.
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
    """Return the units that every class can do without."""
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
    """Return the classes that an item counts for: each of its labels; where labels are not asked for, None."""
    return (None,) if item.label is None else item.labels


def _unit(item: Item) -> str:
    """Return what decides an item's part: its group's name, or its own digest."""
    return item.digest if item.group is None else f"group:{item.group}"


def _fraction(salt: str, unit: str) -> float:
    """Return a number from 0 up to 1 that a unit has for ever."""
    return int.from_bytes(hashlib.sha256(f"{salt}\n{unit}".encode()).digest()[:8]) / (1 << 64)
