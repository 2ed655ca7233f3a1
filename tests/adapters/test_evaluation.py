"""Figures agree with scikit-learn's, and with what can be worked out by hand."""

from typing import cast

import numpy as np
import pytest
from sklearn import metrics

from adapters.datasets import TEST, Dataset
from adapters.evaluation import calibration_error, held_out, measure
from registry.errors import InvalidValue

LABELS = ("a", "b", "c", "never")


def _example() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(5)
    targets = random.integers(0, 3, 200)
    logits = random.normal(size=(200, 4)).astype(np.float32)
    logits[np.arange(200), targets] += 1
    logits[:, 3] -= 50
    return logits, targets


def test_figures_agree_with_scikit_learn() -> None:
    logits, targets = _example()
    figures = measure(logits, targets, LABELS)
    answers = logits.argmax(axis=1)
    probabilities = np.exp(logits - np.logaddexp.reduce(logits.astype(np.float64), axis=1, keepdims=True))
    assert figures["accuracy"] == pytest.approx(metrics.accuracy_score(targets, answers))
    assert figures["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(targets, answers))
    assert figures["macro_f1"] == pytest.approx(metrics.f1_score(targets, answers, average="macro"))
    assert figures["log_loss"] == pytest.approx(
        metrics.log_loss(targets, probabilities, labels=[0, 1, 2, 3]), rel=1e-6
    )


def test_counts_are_kept_for_every_label() -> None:
    logits, targets = _example()
    classes = cast(dict[str, dict[str, int]], measure(logits, targets, LABELS)["classes"])
    assert list(classes) == list(LABELS)
    assert sum(each["items"] for each in classes.values()) == 200
    assert sum(each["answered"] for each in classes.values()) == 200
    assert classes["never"] == {"items": 0, "right": 0, "answered": 0}


def test_confidence_that_matches_accuracy_is_calibrated() -> None:
    confidence = np.full(100, 0.75)
    right = np.arange(100) < 75
    assert calibration_error(confidence, right) == pytest.approx(0)
    assert calibration_error(confidence, ~right) == pytest.approx(0.5)
    assert calibration_error(np.ones(4), np.ones(4, bool)) == 0


def test_extreme_logits_stay_finite() -> None:
    figures = measure(np.array([[1e30, -1e30], [-1e30, 1e30]], np.float32), np.array([0, 1]), ("a", "b"))
    assert figures["accuracy"] == 1 and figures["log_loss"] == 0


def test_held_out_predictions_are_keyed_by_content(shapes_data: Dataset) -> None:
    items = shapes_data.part(TEST)
    logits = np.random.default_rng(0).normal(size=(len(items), 3)).astype(np.float32)
    predictions, figures = held_out(shapes_data, logits, shapes_data.labels)
    assert predictions.digests == tuple(sorted(item.digest for item in items))
    assert figures["items"] == len(items)
    for item, row in zip(items, logits, strict=True):
        at = predictions.digests.index(item.digest)
        assert np.array_equal(predictions.logits[at], row)
        assert shapes_data.labels[predictions.labels[at]] == item.label


def test_nothing_held_out_cannot_be_measured() -> None:
    with pytest.raises(InvalidValue, match="at least one item"):
        measure(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), ("a", "b"))


def test_labels_in_another_order_are_followed(shapes_data: Dataset) -> None:
    labels = ("disc", "checks", "bars", "other")
    index = shapes_data.index(TEST)
    targets = shapes_data.targets(index, labels)
    assert [labels[number] for number in targets] == [shapes_data.items[at].label for at in index]
