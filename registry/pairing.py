"""Two versions' answers to the same items: who is better, and whether that may be chance. Pure.

Items that either version, or an ancestor of one, learnt from are left out and counted: on those
a version would be praised for its memory.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from math import exp, lgamma, log

import numpy as np

from registry.digests import Digest
from registry.errors import InvalidValue
from registry.predictions import Predictions
from registry.resampling import Interval, difference_of_counts


@dataclass(frozen=True, slots=True)
class Pairing:
    """What came of comparing the answers of two versions.

    Attributes:
        items: how many both answered that count.
        right: how many of them the first and the second got right.
        only: how many the first alone got right, and the second alone.
        learnt: items that both answered, left out because either or an ancestor learnt from them.
        relabelled: items that both answered, left out because their labels differ by now.
        unmatched: items that only the first answered, and only the second.
    """

    items: int
    right: tuple[int, int]
    only: tuple[int, int]
    learnt: int
    relabelled: int
    unmatched: tuple[int, int]

    @property
    def difference(self) -> Interval:
        """The first's accuracy less the second's, with its bootstrap interval.

        Raises:
            InvalidValue: no item counts.
        """
        if not self.items:
            raise InvalidValue("the versions share no held-out item that neither learnt from")
        return difference_of_counts(*self.only, self.items)

    @property
    def p(self) -> float:
        """How likely a difference at least as large is where both are equally good, 0 to 1."""
        return mcnemar(*self.only)

    def to_json(self) -> dict[str, object]:
        """Return the JSON form; the figures are null where no item counts."""
        found = self.difference if self.items else None
        return {
            "items": self.items,
            "right": list(self.right),
            "only": list(self.only),
            "difference": found and found.value,
            "low": found and found.low,
            "high": found and found.high,
            "p": self.p if self.items else None,
            "excluded": {"learnt": self.learnt, "relabelled": self.relabelled},
            "unmatched": list(self.unmatched),
        }


def pair(
    predictions: tuple[Predictions, Predictions],
    labels: tuple[Sequence[str], Sequence[str]],
    learnt: Set[Digest],
) -> Pairing:
    """Compare two versions on the items that both answered.

    Args:
        predictions: of the first and the second.
        labels: of the first and the second, in the order of their logits.
        learnt: digests of items that either or an ancestor learnt from.

    Raises:
        InvalidValue: one gives an item one label and the other any number, or such labels differ.
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
    right, other = first.right()[here][agree], second.right()[there][agree]
    return Pairing(
        items=int(agree.sum()),
        right=(int(right.sum()), int(other.sum())),
        only=(int((right & ~other).sum()), int((other & ~right).sum())),
        learnt=len(both) - len(fresh),
        relabelled=int((~agree).sum()),
        unmatched=(len(first) - len(both), len(second) - len(both)),
    )


def mcnemar(only: int, only_other: int) -> float:
    """Return the two-sided p-value of McNemar's test (1947) in its exact form: a binomial test of the odd ones out.

    Args:
        only: items that only the first has right.
        only_other: items that only the second has right.
    """
    count, fewer = only + only_other, min(only, only_other)
    if count == 0:
        return 1.0
    tail = sum(
        exp(lgamma(count + 1) - lgamma(k + 1) - lgamma(count - k + 1) - count * log(2))
        for k in range(fewer + 1)
    )
    return min(1.0, 2 * tail)


def _same_truth(
    first: np.ndarray, second: np.ndarray, labels: tuple[Sequence[str], Sequence[str]]
) -> np.ndarray:
    """Return for which items two numberings of labels mean the same, bool [N]."""
    numbers = {label: number for number, label in enumerate(labels[0])}
    meant = np.array([numbers.get(label, -1) for label in labels[1]], np.int64)
    if first.ndim == 1:
        same: np.ndarray = meant[second] == first
        return same
    everywhere: np.ndarray = (first[:, meant] == second).all(axis=1)
    return everywhere
