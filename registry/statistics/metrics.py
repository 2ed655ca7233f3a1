"""The metrics of predictions, for all examples and for weighted resamples."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from registry.statistics.bootstrap import Metric, Statistic
from registry.statistics.calibration import calibration_error
from registry.statistics.probabilities import log_softmax, sigmoid
from registry.statistics.ranking import auroc, mean_average_precision

MAX_RANKED = 200_000
"""Most scores, examples times labels, for which rankings are resampled: about ten seconds."""

_Counts: TypeAlias = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""Maps weights [N, R] to the weights of each label's hits, examples and predictions, [C, R] each."""

_RAREST, _OTHERS, _WRONG = "the rarest label", "labels beside the commonest", "a wrong prediction"
_BIASED = "it counts chance gaps as errors, and resampling adds to them"
_LARGE = f"it takes at most {MAX_RANKED:,} scores, and there are more"


def classification_metrics(logits: np.ndarray, targets: np.ndarray) -> dict[str, Metric]:
    """Return the metrics of a single-label classifier, except accuracy.

    ``balanced_accuracy``, the mean recall of the labels that occur; ``macro_f1``, the mean over the labels that occur
    or are predicted; ``log_loss`` in nats; ``ece``; ``auroc``.

    Args:
        logits: float32 [N, C], N at least 1.
        targets: int64 [N], 0 up to C.
    """
    log_probabilities = log_softmax(logits)
    probabilities = np.exp(log_probabilities)
    predicted = logits.argmax(axis=1)
    right = predicted == targets
    truth = targets[:, None] == np.arange(logits.shape[1])
    counts = _counts(predicted, targets)
    loss = -log_probabilities[np.arange(len(targets)), targets]
    return {
        "balanced_accuracy": Metric(lambda weights: _recall(*counts(weights)), {_RAREST: truth}),
        "macro_f1": Metric(lambda weights: _macro_f1(*counts(weights)), {_RAREST: truth}),
        "log_loss": Metric(_mean(loss), {_WRONG: ~right}),
        "ece": Metric(calibration_error(probabilities.max(axis=1), right), reason=_BIASED),
        "auroc": _ranked(auroc(truth, probabilities), truth, ~right),
    }


def multilabel_metrics(logits: np.ndarray, targets: np.ndarray) -> dict[str, Metric]:
    """Return the metrics of a multilabel classifier, except accuracy.

    A label is predicted if its sigmoid is above 0.5. ``micro_f1`` over all decisions; ``macro_f1``, the mean
    over the labels that occur or are predicted; ``log_loss`` in nats and ``ece`` of every decision;
    ``auroc``; and ``mean_average_precision``.

    Args:
        logits: float32 [N, L], N at least 1.
        targets: which example has which label, uint8 or bool [N, L].
    """
    truth, predicted = targets.astype(bool), logits > 0
    probabilities, scores = sigmoid(logits), logits.astype(np.float64)
    wrong = truth != predicted
    tables = [each.T.astype(np.float64) for each in (truth & predicted, truth, predicted)]

    def counts(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        hits, there, given = (table @ weights for table in tables)
        return hits, there, given

    loss = np.logaddexp(0, np.where(truth, -scores, scores)).mean(axis=1)
    confidence = np.maximum(probabilities, 1 - probabilities)
    average_precision = mean_average_precision(truth, scores)
    return {
        "micro_f1": Metric(lambda weights: _micro_f1(*counts(weights)), {_WRONG: wrong.any(axis=1)}),
        "macro_f1": Metric(lambda weights: _macro_f1(*counts(weights)), {_RAREST: truth}),
        "log_loss": Metric(_mean(loss), {_WRONG: wrong.any(axis=1)}),
        "ece": Metric(calibration_error(confidence, ~wrong), reason=_BIASED),
        "auroc": _ranked(auroc(truth, probabilities), truth, wrong.any(axis=1)),
        "mean_average_precision": _ranked(average_precision, truth, wrong.any(axis=1)),
    }


def _ranked(statistic: Statistic, truth: np.ndarray, wrong: np.ndarray) -> Metric:
    # A nearly perfect ranking depends on the few examples that are in the wrong position.
    rests = {_RAREST: truth, _OTHERS: ~truth, _WRONG: wrong}
    return Metric(statistic, rests, _LARGE if truth.size > MAX_RANKED else "")


def _mean(values: np.ndarray) -> Statistic:
    def statistic(weights: np.ndarray) -> np.ndarray:
        found: np.ndarray = values @ weights / weights.sum(axis=0)
        return found

    return statistic


def _counts(predicted: np.ndarray, targets: np.ndarray) -> _Counts:
    """Return a function that counts the labels that occur or are predicted."""
    numbers = np.unique(np.concatenate([predicted, targets]))
    right = predicted == targets

    def counts(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        hits = _sums(weights[right], targets[right], numbers)
        return hits, _sums(weights, targets, numbers), _sums(weights, predicted, numbers)

    return counts


def _sums(weights: np.ndarray, numbers: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the sum of the weights of each of some numbers, [wanted, R]; ``wanted`` ascends and holds all."""
    found = np.zeros((len(wanted), weights.shape[1]))
    if len(numbers):
        order = np.argsort(numbers, kind="stable")
        there, starts = np.unique(numbers[order], return_index=True)
        found[np.searchsorted(wanted, there)] = np.add.reduceat(weights[order], starts, axis=0)
    return found


def _recall(hits: np.ndarray, there: np.ndarray, _: np.ndarray) -> np.ndarray:
    return _mean_over(hits, there, np.nan)


def _macro_f1(hits: np.ndarray, there: np.ndarray, given: np.ndarray) -> np.ndarray:
    # Without any label or prediction there are no false negatives and no false positives.
    return _mean_over(2 * hits, there + given, 1.0)


def _micro_f1(hits: np.ndarray, there: np.ndarray, given: np.ndarray) -> np.ndarray:
    return _mean_over(2 * hits.sum(axis=0)[None], (there + given).sum(axis=0)[None], 1.0)


def _mean_over(above: np.ndarray, below: np.ndarray, nothing: float) -> np.ndarray:
    """Return the mean of the defined quotients, [R]."""
    filled = below > 0
    quotients = np.divide(above, below, out=np.zeros_like(above), where=filled)
    count = filled.sum(axis=0)
    found: np.ndarray = np.divide(
        quotients.sum(axis=0), count, out=np.full(len(count), nothing), where=count > 0
    )
    return found
