"""Nearest class mean, for very few examples."""

import numpy as np

from adapters.heads.head import LinearHead
from adapters.heads.loss import sharpest
from adapters.heads.standard import Standard, threads


def centroid_head(features: np.ndarray, targets: np.ndarray, labels: int) -> LinearHead:
    """Predict the label with the nearest mean, by the distance between standardised features.

    The squared distance, halved and negated, is linear in the features up to what all labels share
    (Mensink et al., "Distance-Based Image Classification", 2013; Snell et al., "Prototypical Networks",
    2017). One number scales it so that leave-one-out log loss is least, where every class has two items
    to leave one of; else the distances are divided by the number of dimensions.

    Args:
        features: float32 [N, D].
        targets: label numbers, int64 [N].
        labels: how many there are, at least two; those without an item are never answered.

    Raises:
        DatasetError: fewer than two labels are present, or a feature is not finite.
    """
    scale = Standard.of(features, targets)
    with threads(features, labels):
        rows = scale.apply(features)
        counts = np.bincount(targets, minlength=labels)
        sums = np.zeros((labels, rows.shape[1]))
        np.add.at(sums, targets, rows)
        means = sums / np.maximum(counts, 1)[:, None]
        bias = -0.5 * np.square(means).sum(axis=1)
        scores = rows @ means.T + bias
    bias = np.where(counts > 0, bias, -1e4)
    sharpness = 1.0 / rows.shape[1]
    if counts[counts > 0].min() > 1:
        scores = np.where(counts > 0, scores, -1e4)
        scores[np.arange(len(rows)), targets] = _without_itself(rows, means, counts, targets)
        sharpness = sharpest(scores, targets, (-12, 3))
    return scale.fold(sharpness * means.T, sharpness * bias, 0.0, ())


def _without_itself(
    rows: np.ndarray, means: np.ndarray, counts: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Return each row's score for its own label, had the label's mean been taken without it."""
    own = counts[targets][:, None]
    others = (means[targets] * own - rows) / (own - 1)
    scores: np.ndarray = (rows * others).sum(axis=1) - 0.5 * np.square(others).sum(axis=1)
    return scores
