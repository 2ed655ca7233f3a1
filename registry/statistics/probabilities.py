"""From logits to probabilities."""

import numpy as np


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log probabilities, float64 [N, C], of logits [N, C]."""
    scores = logits.astype(np.float64)
    log_probabilities: np.ndarray = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    return log_probabilities


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, float64, of logits of any shape."""
    probabilities: np.ndarray = np.exp(-np.logaddexp(0, -logits.astype(np.float64)))
    return probabilities
