"""How well scores rank the items that have a label before those that have not."""

import numpy as np

_BLOCK = 64


def auroc(truth: np.ndarray, scores: np.ndarray) -> float | None:
    """Return the area under the ROC curve of one label against the rest, the mean over labels.

    The probability that an item with the label has the higher score, a tie counting half: Mann and
    Whitney's statistic, from the sum of ranks.

    Args:
        truth: which items have which label, bool [N, L].
        scores: float [N, L].

    Returns:
        the mean over those labels that some items have and others have not; None where there is none.
    """
    from scipy.stats import rankdata

    there = truth.sum(axis=0)
    defined = (there > 0) & (there < len(truth))
    if not defined.any():
        return None
    columns = np.flatnonzero(defined)
    # Some labels at a time: ranks of all of them at once would be as large as the scores again.
    blocks = [columns[start : start + _BLOCK] for start in range(0, len(columns), _BLOCK)]
    above = [(rankdata(scores[:, block], axis=0) * truth[:, block]).sum(axis=0) for block in blocks]
    positive = there[columns]
    wins = np.concatenate(above) - positive * (positive + 1) / 2
    return float((wins / (positive * (len(truth) - positive))).mean())


def mean_average_precision(truth: np.ndarray, scores: np.ndarray) -> float | None:
    """Return the average precision, the mean over labels: the sum of precision times the gain in recall.

    Args:
        truth: which items have which label, bool [N, L].
        scores: float [N, L].

    Returns:
        the mean over those labels that some items have; None where there is none.
    """
    there = truth.any(axis=0)
    if not there.any():
        return None
    each = [_average_precision(truth[:, at], scores[:, at]) for at in np.flatnonzero(there)]
    return float(np.mean(each))


def _average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(truth[order])
    # Items of one score come at once: only where a score ends is there a threshold.
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    precision, recall = hits[ends] / (ends + 1), hits[ends] / hits[-1]
    return float((precision * np.diff(recall, prepend=0.0)).sum())
