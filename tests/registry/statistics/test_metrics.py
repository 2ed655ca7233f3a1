"""Metrics, beside scikit-learn's, of all examples and of weighted ones."""

import numpy as np
import pytest
from sklearn import metrics as sklearn

from registry.statistics import Reliability, classification_metrics, log_softmax, multilabel_metrics, sigmoid


def _classified(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    targets = random.integers(0, 4, 150)
    # Rounded, so that scores tie.
    logits = random.normal(size=(150, 4)).round(1).astype(np.float32)
    logits[np.arange(150), targets] += 1
    return logits, targets, random.integers(0, 4, (150, 3)).astype(np.float64)


@pytest.mark.parametrize("seed", range(3))
def test_weighted_metrics_of_classification_are_scikit_learns(seed: int) -> None:
    logits, targets, weights = _classified(seed)
    found = {
        name: metric.statistic(weights) for name, metric in classification_metrics(logits, targets).items()
    }
    predicted, probabilities = logits.argmax(axis=1), np.exp(log_softmax(logits))
    truth = np.eye(4)[targets]
    for at, each in enumerate(weights.T):
        expected = {
            "balanced_accuracy": sklearn.balanced_accuracy_score(targets, predicted, sample_weight=each),
            "macro_f1": sklearn.f1_score(targets, predicted, average="macro", sample_weight=each),
            "log_loss": sklearn.log_loss(targets, probabilities, sample_weight=each),
            "auroc": sklearn.roc_auc_score(truth, probabilities, average="macro", sample_weight=each),
        }
        assert {name: found[name][at] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_weighted_metrics_of_several_labels_are_scikit_learns(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = (random.random((120, 3)) < [0.5, 0.2, 0.8]).astype(np.uint8)
    logits = (random.normal(size=(120, 3)).round(1) + truth - 0.5).astype(np.float32)
    weights = random.integers(0, 4, (120, 3)).astype(np.float64)
    found = {name: metric.statistic(weights) for name, metric in multilabel_metrics(logits, truth).items()}
    predicted, scores = logits > 0, logits.astype(np.float64)
    for at, each in enumerate(weights.T):
        expected = {
            "micro_f1": sklearn.f1_score(truth, predicted, average="micro", sample_weight=each),
            "macro_f1": sklearn.f1_score(truth, predicted, average="macro", sample_weight=each),
            "auroc": sklearn.roc_auc_score(truth, scores, average="macro", sample_weight=each),
            "mean_average_precision": sklearn.average_precision_score(
                truth, scores, average="macro", sample_weight=each
            ),
            "log_loss": np.mean(
                [sklearn.log_loss(truth[:, c], sigmoid(scores[:, c]), sample_weight=each) for c in range(3)]
            ),
        }
        assert {name: found[name][at] for name in expected} == pytest.approx(expected)


def test_a_weight_is_that_many_examples() -> None:
    logits, targets, weights = _classified(5)
    times = weights[:, 0].astype(np.int64)
    repeated = classification_metrics(np.repeat(logits, times, axis=0), np.repeat(targets, times))
    for name, metric in classification_metrics(logits, targets).items():
        assert metric.statistic(weights)[0] == pytest.approx(repeated[name].value(int(times.sum()))), name


def test_the_calibration_error_is_the_mean_gap_of_the_bins() -> None:
    logits, targets, _ = _classified(6)
    confidence = np.exp(log_softmax(logits).max(axis=1))
    expected = Reliability.of(confidence, logits.argmax(axis=1) == targets).error
    assert classification_metrics(logits, targets)["ece"].value(150) == pytest.approx(expected)


def test_confidence_that_matches_accuracy_is_calibrated() -> None:
    confidence = np.full(100, 0.75)
    right = np.arange(100) < 75
    assert Reliability.of(confidence, right).error == pytest.approx(0)
    assert Reliability.of(confidence, ~right).error == pytest.approx(0.5)
    assert Reliability.of(np.ones(4), np.ones(4, bool)).error == 0


def test_a_ranking_without_a_label_is_undefined() -> None:
    logits = np.zeros((12, 2), np.float32)
    nothing = np.zeros((12, 2), np.uint8)
    found = multilabel_metrics(logits, nothing)
    assert np.isnan(found["auroc"].value(12)) and np.isnan(found["mean_average_precision"].value(12))
    assert np.isnan(multilabel_metrics(logits, nothing + 1)["auroc"].value(12))
