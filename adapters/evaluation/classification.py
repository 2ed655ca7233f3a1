"""Figures of a classifier that gives every item one label."""

from collections.abc import Sequence

import numpy as np

from adapters.evaluation.calibration import calibration_error
from adapters.evaluation.ranking import auroc
from registry.manifest import Json
from registry.statistics import share

MAX_CONFUSION_LABELS = 100


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log probabilities, float64 [N, C], of logits [N, C]."""
    scores = logits.astype(np.float64)
    log_probabilities: np.ndarray = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    return log_probabilities


def classification(
    logits: np.ndarray, targets: np.ndarray, labels: Sequence[str], groups: np.ndarray | None = None
) -> dict[str, Json]:
    """Return the figures that ``measure`` describes.

    Args:
        logits: float32 [N, C], N at least 1.
        targets: int64 [N].
        labels: C of them.
        groups: of each example, or None.
    """
    count = len(targets)
    log_probabilities = log_softmax(logits)
    probabilities = np.exp(log_probabilities)
    answers = logits.argmax(axis=1)
    right = answers == targets
    there = np.bincount(targets, minlength=len(labels))
    answered = np.bincount(answers, minlength=len(labels))
    hits = np.bincount(targets[right], minlength=len(labels))
    occurs, seen = there > 0, there + answered > 0
    accuracy = share(right, groups)
    figures: dict[str, Json] = {
        "items": count,
        "accuracy": accuracy.value,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "balanced_accuracy": float((hits[occurs] / there[occurs]).mean()),
        "macro_f1": float((2 * hits[seen] / (there + answered)[seen]).mean()),
        "log_loss": float(-log_probabilities[np.arange(count), targets].mean()),
        "ece": calibration_error(probabilities.max(axis=1), right),
        "classes": {
            label: {"items": int(there[at]), "right": int(hits[at]), "answered": int(answered[at])}
            for at, label in enumerate(labels)
        },
    }
    area = auroc(targets[:, None] == np.arange(len(labels)), probabilities)
    if area is not None:
        figures["auroc"] = area
    if len(labels) <= MAX_CONFUSION_LABELS:
        pairs = np.bincount(targets * len(labels) + answers, minlength=len(labels) ** 2)
        figures["confusion"] = [list(row) for row in pairs.reshape(len(labels), len(labels)).tolist()]
    return figures
