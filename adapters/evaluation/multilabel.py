"""Figures of a classifier that gives an item any number of labels."""

from collections.abc import Sequence

import numpy as np

from adapters.evaluation.calibration import calibration_error
from adapters.evaluation.ranking import auroc, mean_average_precision
from registry.manifest import Json
from registry.statistics import share


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return probabilities, float64, of logits of any shape."""
    probabilities: np.ndarray = np.exp(-np.logaddexp(0, -logits.astype(np.float64)))
    return probabilities


def multilabel(
    logits: np.ndarray, targets: np.ndarray, labels: Sequence[str], groups: np.ndarray | None = None
) -> dict[str, Json]:
    """Return the figures that ``measure`` describes.

    Args:
        logits: float32 [N, L], N at least 1.
        targets: which item has which label, uint8 or bool [N, L].
        labels: L of them.
        groups: of each example, or None.
    """
    truth, answers = targets.astype(bool), logits > 0
    probabilities = sigmoid(logits)
    hits, there, answered = (each.sum(axis=0) for each in (truth & answers, truth, answers))
    seen = there + answered > 0
    accuracy = share((truth == answers).all(axis=1), groups)
    scores = logits.astype(np.float64)
    figures: dict[str, Json] = {
        "items": len(truth),
        "accuracy": accuracy.value,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "micro_f1": _f1(hits.sum(), (there + answered).sum()),
        "macro_f1": _f1(hits[seen], (there + answered)[seen]),
        "log_loss": float(np.logaddexp(0, np.where(truth, -scores, scores)).mean()),
        "ece": calibration_error(
            np.maximum(probabilities, 1 - probabilities).ravel(), (truth == answers).ravel()
        ),
        "classes": {
            label: {"items": int(there[at]), "right": int(hits[at]), "answered": int(answered[at])}
            for at, label in enumerate(labels)
        },
    }
    ranked = {
        "auroc": auroc(truth, probabilities),
        "mean_average_precision": mean_average_precision(truth, scores),
    }
    return figures | {name: value for name, value in ranked.items() if value is not None}


def _f1(hits: np.ndarray, sizes: np.ndarray) -> float:
    """Return the mean of twice the hits over what there is and what was answered; 1 where both are nothing."""
    return float(np.mean(2 * hits / sizes)) if np.sum(sizes) else 1.0
