"""What a classifier's scores lose."""

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
