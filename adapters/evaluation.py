"""How good a version is on the items that were held out."""

from collections.abc import Sequence

import numpy as np

from adapters.datasets.dataset import TEST, Dataset
from registry.errors import InvalidValue
from registry.manifest import Json
from registry.predictions import Predictions

ECE_BINS = 15
"""Bins of equal width, as in Guo et al., "On Calibration of Modern Neural Networks" (2017)."""


def held_out(
    dataset: Dataset, logits: np.ndarray, labels: Sequence[str]
) -> tuple[Predictions, dict[str, Json]]:
    """Return the predictions on the test part, and their figures.

    Args:
        dataset: with a test part.
        logits: float32 [N, C], one row for each item of ``dataset.part("test")``, in that order.
        labels: in the order of the logits.

    Raises:
        InvalidValue: the test part is empty, holds another label, or has another size.
    """
    items = dataset.part(TEST)
    targets = dataset.targets(dataset.index(TEST), labels)
    predictions = Predictions.of([item.digest for item in items], targets, logits)
    return predictions, measure(predictions.logits, predictions.labels, labels)


def measure(logits: np.ndarray, targets: np.ndarray, labels: Sequence[str]) -> dict[str, Json]:
    """Return the figures of a classifier.

    ``items``; ``accuracy``; ``balanced_accuracy`` and ``macro_f1``, means over the labels that occur (in
    the targets; for F1 in the targets or the answers); ``log_loss`` in nats; ``ece``, the expected
    calibration error over 15 bins; and ``classes``: for each label ``items``, ``right`` and ``answered``.

    Args:
        logits: float32 [N, C].
        targets: int64 [N].
        labels: C of them.

    Raises:
        InvalidValue: there is no item, or the shapes do not fit.
    """
    count = len(targets)
    if count == 0 or logits.shape != (count, len(labels)):
        raise InvalidValue(
            f"expected logits [{count}, {len(labels)}] of at least one item, got {list(logits.shape)}"
        )
    scores = logits.astype(np.float64)
    log_probabilities = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    answers = scores.argmax(axis=1)
    right = answers == targets
    there = np.bincount(targets, minlength=len(labels))
    answered = np.bincount(answers, minlength=len(labels))
    hits = np.bincount(targets[right], minlength=len(labels))
    occurs, seen = there > 0, there + answered > 0
    return {
        "items": count,
        "accuracy": float(right.mean()),
        "balanced_accuracy": float((hits[occurs] / there[occurs]).mean()),
        "macro_f1": float((2 * hits[seen] / (there + answered)[seen]).mean()),
        "log_loss": float(-log_probabilities[np.arange(count), targets].mean()),
        "ece": calibration_error(np.exp(log_probabilities.max(axis=1)), right),
        "classes": {
            label: {"items": int(there[at]), "right": int(hits[at]), "answered": int(answered[at])}
            for at, label in enumerate(labels)
        },
    }


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the expected calibration error: the mean gap between confidence and accuracy over the bins.

    Args:
        confidence: probability of the answer, float64 [N], 0 to 1.
        right: whether it was right, bool [N].
    """
    bins = np.minimum((confidence * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    gaps = np.bincount(bins, confidence - right, minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / len(confidence))
