"""Paired comparison of two versions' predictions on the same examples.

Examples that either version, or one of its ancestors, was trained on are excluded and counted: predictions on
training examples say little about new ones.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np

from registry.digests import Digest
from registry.errors import InvalidValue
from registry.predictions import Predictions
from registry.statistics.difference import difference
from registry.statistics.effective import joined, numbered
from registry.statistics.interval import Interval
from registry.statistics.mcnemar import randomisation


@dataclass(frozen=True, slots=True)
class Pairing:
    """The result of a paired comparison.

    Attributes:
        items: number of examples that both predicted, without the excluded ones.
        right: number of examples that the first and the second predicted correctly.
        only: number of examples that only the first predicted correctly, and only the second.
        found: the first's accuracy minus the second's, with Tango's interval; None without examples.
        p: two-sided p-value, 0 to 1, of McNemar's exact test or of the randomisation test over groups; None
            without examples.
        learnt: number of examples that both predicted, excluded because either version or an ancestor was
            trained on them.
        relabelled: number of examples that both predicted, excluded because their labels differ.
        unmatched: number of examples that only the first predicted, and only the second.
    """

    items: int
    right: tuple[int, int]
    only: tuple[int, int]
    found: Interval | None
    p: float | None
    learnt: int
    relabelled: int
    unmatched: tuple[int, int]

    @property
    def difference(self) -> Interval:
        """The first's accuracy minus the second's, with its interval.

        Raises:
            InvalidValue: there are no examples.
        """
        if self.found is None:
            raise InvalidValue("the versions share no held-out item that neither learnt from")
        return self.found

    def to_json(self) -> dict[str, object]:
        """Return the JSON form; without examples the numbers are null."""
        found = self.found
        return {
            "items": self.items,
            "right": list(self.right),
            "only": list(self.only),
            "difference": found and found.value,
            "low": found and found.low,
            "high": found and found.high,
            "method": found and found.method,
            "groups": found and found.groups,
            "effective": found and found.effective,
            "p": self.p,
            "excluded": {"learnt": self.learnt, "relabelled": self.relabelled},
            "unmatched": list(self.unmatched),
        }


def pair(
    predictions: tuple[Predictions, Predictions],
    labels: tuple[Sequence[str], Sequence[str]],
    learnt: Set[Digest],
) -> Pairing:
    """Compare two versions on the examples that both predicted.

    Args:
        predictions: of the first and the second.
        labels: of the first and the second, in the order of their logits.
        learnt: digests of examples that either or an ancestor was trained on.

    Raises:
        InvalidValue: one version is single-label and the other multilabel, or the labels of multilabel
            versions differ.
    """
    first, second = predictions
    if first.multilabel != second.multilabel:
        raise InvalidValue("one version gives an item one label, the other any number of them")
    if first.multilabel and set(labels[0]) != set(labels[1]):
        raise InvalidValue("the versions give an item any number of labels, out of different ones")
    places = {digest: at for at, digest in enumerate(second.digests)}
    both = [(at, places[digest]) for at, digest in enumerate(first.digests) if digest in places]
    fresh = [(at, other) for at, other in both if first.digests[at] not in learnt]
    here, there = (np.array([row[side] for row in fresh], np.int64) for side in (0, 1))
    agree = _same_truth(first.labels[here], second.labels[there], labels)
    here, there = here[agree], there[agree]
    right, other = first.right()[here], second.right()[there]
    found = p = None
    if len(here):
        groups = _groups((first.groups, second.groups), (here, there))
        found = difference(right, other, groups)
        apart = right.astype(np.int64) - other
        p = randomisation(np.bincount(groups, apart).astype(np.int64))
    return Pairing(
        items=len(here),
        right=(int(right.sum()), int(other.sum())),
        only=(int((right & ~other).sum()), int((other & ~right).sum())),
        found=found,
        p=p,
        learnt=len(both) - len(fresh),
        relabelled=int((~agree).sum()),
        unmatched=(len(first) - len(both), len(second) - len(both)),
    )


def _groups(
    groups: tuple[np.ndarray | None, np.ndarray | None], rows: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Return the groups of the examples that both predicted, as indices, int64 [N]."""
    ours, theirs = (
        numbered(None if each is None else each[chosen], len(chosen))
        for each, chosen in zip(groups, rows, strict=True)
    )
    return joined(ours, theirs)


def _same_truth(
    first: np.ndarray, second: np.ndarray, labels: tuple[Sequence[str], Sequence[str]]
) -> np.ndarray:
    """Return for which examples two label indices mean the same label, bool [N]."""
    numbers = {label: number for number, label in enumerate(labels[0])}
    meant = np.array([numbers.get(label, -1) for label in labels[1]], np.int64)
    if first.ndim == 1:
        same: np.ndarray = meant[second] == first
        return same
    everywhere: np.ndarray = (first[:, meant] == second).all(axis=1)
    return everywhere
