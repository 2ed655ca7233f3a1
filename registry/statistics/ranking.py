"""Ranking metrics: how well scores rank examples with a label above the others."""

from collections.abc import Callable, Iterator

import numpy as np

from registry.statistics.bootstrap import Statistic


def auroc(truth: np.ndarray, scores: np.ndarray) -> Statistic:
    """Return the area under the ROC curve of each label against the rest, averaged over labels.

    It is the probability that an example with the label has the higher score; a tie counts one half (Mann and
    Whitney, 1947). The mean is over the labels that some examples have and others do not have.

    Args:
        truth: which examples have which label, bool [N, L].
        scores: float [N, L].
    """
    labels = np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0))
    return _mean_over_labels(truth, scores, labels, _area)


def mean_average_precision(truth: np.ndarray, scores: np.ndarray) -> Statistic:
    """Return the average precision, averaged over labels: the sum of precision times the gain in recall.

    The mean is over the labels that some examples have.

    Args:
        truth: which examples have which label, bool [N, L].
        scores: float [N, L].
    """
    return _mean_over_labels(truth, -scores, np.flatnonzero(truth.any(axis=0)), _average_precision)


_OfOne = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""From the weights with a label at each score that has any, of all examples with lower scores, of all at that
score, [S, R] each, and of all, [R], to a metric of the label, [R]."""


def _mean_over_labels(truth: np.ndarray, scores: np.ndarray, labels: np.ndarray, of_one: _OfOne) -> Statistic:
    def statistic(weights: np.ndarray) -> np.ndarray:
        everything, total = weights.sum(axis=0), np.zeros(weights.shape[1])
        for positive, below, level in _at_scores(truth, scores, labels, weights):
            total += of_one(positive, below, level, everything)
        return total / len(labels) if len(labels) else np.full(weights.shape[1], np.nan)

    return statistic


def _at_scores(
    truth: np.ndarray, scores: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the arguments of ``_OfOne`` for each label, by ascending score."""
    for at in labels:
        order = np.argsort(scores[:, at], kind="stable")
        _, tie = np.unique(scores[order, at], return_inverse=True)
        having = np.flatnonzero(truth[order, at])
        ties, first = np.unique(tie[having], return_index=True)
        positive = np.add.reduceat(weights[order[having]], first, axis=0)
        # Sum between the relevant scores, not over every example.
        starts, ends = np.searchsorted(tie, ties), np.searchsorted(tie, ties, side="right")
        edges = np.unique(np.concatenate([[0], starts, ends[ends < len(order)]]))
        sums = np.add.reduceat(weights[order], edges, axis=0)
        upto = np.cumsum(sums, axis=0)
        place = np.searchsorted(edges, starts)
        yield positive, upto[place] - sums[place], sums[place]


def _area(positive: np.ndarray, below: np.ndarray, level: np.ndarray, total: np.ndarray) -> np.ndarray:
    hits = np.cumsum(positive, axis=0)
    wins = (positive * (below - (hits - positive) + (level - positive) / 2)).sum(axis=0)
    return _over(wins, hits[-1] * (total - hits[-1]))


def _average_precision(
    positive: np.ndarray, below: np.ndarray, level: np.ndarray, _: np.ndarray
) -> np.ndarray:
    hits, there = np.cumsum(positive, axis=0), below + level
    precision = np.divide(hits, there, out=np.zeros_like(hits), where=there > 0)
    return _over((precision * positive).sum(axis=0), hits[-1])


def _over(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return a quotient; nan if the divisor is 0."""
    found: np.ndarray = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return found
