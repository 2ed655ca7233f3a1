"""What a classifier's scores lose, and how large they had best be."""

import numpy as np


def log_loss(scores: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean negative log probability of the right answers, in nats.

    Args:
        scores: [N, labels].
        targets: label numbers, int64 [N]; or ones and zeros, uint8 [N, labels], each label a question of its own.
    """
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
        lambda power: log_loss(np.exp(power) * scores, targets), bounds=bounds, method="bounded"
    )
    return float(np.exp(found.x))
