"""The log loss of a classifier's scores, and the best scale of the scores."""

import numpy as np

MAX_SCORES = 8_000_000
"""Scores that are copied, or computed and let go, at a time."""


def log_loss(scores: np.ndarray, targets: np.ndarray, sharpness: float = 1.0) -> float:
    """Return the mean negative log probability of the right answers, in nats.

    Args:
        scores: [N, labels].
        targets: label numbers, int64 [N]; or ones and zeros, uint8 [N, labels], each label a question of its own.
        sharpness: what the scores are multiplied by.
    """
    if len(scores) > (block := max(1, MAX_SCORES // scores.shape[1])):
        blocks = [slice(start, start + block) for start in range(0, len(scores), block)]
        losses = [log_loss(scores[here], targets[here], sharpness) for here in blocks]
        return float(np.average(losses, weights=[len(targets[here]) for here in blocks]))
    scores = sharpness * scores
    if targets.ndim == 2:
        return float(np.mean(np.logaddexp(0, np.where(targets == 1, -scores, scores))))
    shifted = scores - scores.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(targets)), targets]))


def sharpest(scores: np.ndarray, targets: np.ndarray, bounds: tuple[float, float]) -> float:
    """Return the number to multiply scores by that has the least log loss: 1 / temperature.

    Args:
        scores: float64 [N, labels].
        targets: as for ``log_loss``.
        bounds: natural logarithms between which it is looked for.
    """
    # A second of imports that a command which fits nothing does not need.
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda power: log_loss(scores, targets, np.exp(power)), bounds=bounds, method="bounded"
    )
    return float(np.exp(found.x))
