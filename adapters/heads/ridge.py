"""Ridge regression to label indicators, in closed form."""

import numpy as np

from adapters.heads.head import LinearHead
from adapters.heads.loss import MAX_SCORES, sharpest
from adapters.heads.search import Search, descend
from adapters.heads.standard import Standard, threads

DEFAULT_RIDGE_L2 = 0.3
"""Where nothing can be cross-validated: a class has one item, so that no fold can leave it out. What the
search finds on small sets of handwriting, rounded."""


def ridge_head(
    features: np.ndarray, targets: np.ndarray, labels: int, *, l2: float | None = None
) -> LinearHead:
    """Fit ridge regression to label indicators, in closed form.

    The scores are scaled by one number that minimises the log loss of the leave-one-out scores,
    so that their softmax is a probability worth reading.

    Args:
        features: float32 [N, D].
        targets: label numbers, int64 [N], or ones and zeros, uint8 [N, labels].
        labels: how many there are, at least two.
        l2: the penalty; None chooses the one with the least leave-one-out error.

    Raises:
        DatasetError: fewer than two labels are present, or a feature is not finite.
    """
    scale = Standard.of(features, targets)
    with threads(features, labels):
        weight, bias, l2, search = _ridge(scale.apply(features), targets, labels, l2)
    return scale.fold(weight, bias, l2, search)


def _ridge(
    rows: np.ndarray, targets: np.ndarray, labels: int, l2: float | None
) -> tuple[np.ndarray, np.ndarray, float, Search]:
    """Return weights [D, labels] and bias on standardised rows, the penalty in force, and the search for it."""
    indicators = np.eye(labels)[targets] if targets.ndim == 1 else targets.astype(np.float64)
    mean = indicators.mean(axis=0)
    left, singular, right = np.linalg.svd(rows, full_matrices=False)
    projected = left.T @ (indicators - mean)

    def leave_one_out(penalty: float, some: slice = slice(None)) -> np.ndarray:
        shrink = singular**2 / (singular**2 + len(rows) * penalty)
        fitted = mean[some] + left @ (shrink[:, None] * projected[:, some])
        leverage = np.minimum((left**2) @ shrink + 1 / len(rows), 1 - 1e-9)
        scores: np.ndarray = indicators[:, some] - (indicators[:, some] - fitted) / (1 - leverage[:, None])
        return scores

    def error(penalty: float) -> float:
        if indicators.size <= MAX_SCORES:
            return float(np.square(indicators - leave_one_out(penalty)).mean())
        width = max(1, MAX_SCORES // len(rows))
        blocks = [slice(start, start + width) for start in range(0, labels, width)]
        errors = [np.square(indicators[:, some] - leave_one_out(penalty, some)).sum() for some in blocks]
        return float(sum(errors) / indicators.size)

    search: Search = ()
    if l2 is None and indicators.sum(axis=0)[indicators.any(axis=0)].min(initial=2) < 2:
        l2 = DEFAULT_RIDGE_L2
    elif l2 is None:
        l2, search = descend(error)
    scores = leave_one_out(l2)
    sharpness = sharpest(scores, targets, (-3, 6))
    weight = right.T @ ((singular / (singular**2 + len(rows) * l2))[:, None] * projected)
    return sharpness * weight, sharpness * mean, l2, search
