"""Figures agree with scikit-learn's, and with what can be worked out by hand."""

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from sklearn import metrics

from adapters.datasets import TEST, Dataset
from adapters.evaluation import held_out, measure
from registry.errors import InvalidValue
from registry.manifest import MULTILABEL

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


def test_the_area_under_the_curve_is_the_mean_over_labels_that_have_both_values() -> None:
    logits, targets = _example()
    probabilities = np.exp(logits - np.logaddexp.reduce(logits.astype(np.float64), axis=1, keepdims=True))
    truth = np.eye(4)[targets][:, :3]
    expected = metrics.roc_auc_score(truth, probabilities[:, :3], average="macro")
    assert measure(logits, targets, LABELS)["auroc"] == pytest.approx(expected)
    assert "auroc" not in measure(logits, np.zeros(200, np.int64), LABELS)


def test_accuracy_has_an_interval_around_it() -> None:
    figures = cast(dict[str, float], measure(*_example(), LABELS))
    assert figures["accuracy_low"] < figures["accuracy"] < figures["accuracy_high"]
    assert figures["accuracy_high"] - figures["accuracy_low"] == pytest.approx(
        2 * 1.96 * np.sqrt(figures["accuracy"] * (1 - figures["accuracy"]) / 200), rel=0.15
    )


def test_confusions_are_counted_right_label_by_answer() -> None:
    logits, targets = _example()
    expected = metrics.confusion_matrix(targets, logits.argmax(axis=1), labels=range(4))
    assert measure(logits, targets, LABELS)["confusion"] == expected.tolist()
    many = [str(number) for number in range(101)]
    assert "confusion" not in measure(np.zeros((3, 101), np.float32), np.zeros(3, np.int64), many)


def _several() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(3)
    truth = (random.random((150, 4)) < [0.5, 0.2, 0.8, 0.0]).astype(np.uint8)
    logits = (random.normal(size=(150, 4)).round(1) + 2.0 * truth - 1).astype(np.float32)
    return logits, truth


def test_figures_of_several_labels_agree_with_scikit_learn() -> None:
    logits, truth = _several()
    figures = measure(logits, truth, LABELS, MULTILABEL)
    answers, scores = logits > 0, 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert figures["accuracy"] == pytest.approx(metrics.accuracy_score(truth, answers))
    assert figures["micro_f1"] == pytest.approx(metrics.f1_score(truth, answers, average="micro"))
    assert figures["macro_f1"] == pytest.approx(
        metrics.f1_score(truth, answers, average="macro", zero_division=np.nan)
    )
    there = truth[:, :3]
    assert figures["auroc"] == pytest.approx(metrics.roc_auc_score(there, scores[:, :3], average="macro"))
    assert figures["mean_average_precision"] == pytest.approx(
        metrics.average_precision_score(there, scores[:, :3], average="macro")
    )
    assert figures["log_loss"] == pytest.approx(
        np.mean([metrics.log_loss(truth[:, at], scores[:, at], labels=[0, 1]) for at in range(4)])
    )
    classes = cast(dict[str, dict[str, int]], figures["classes"])
    assert classes["a"]["items"] == truth[:, 0].sum() and classes["a"]["answered"] == answers[:, 0].sum()


def test_calibration_of_several_labels_is_of_every_decision() -> None:
    logits = np.full((4, 2), np.log(3), np.float32)
    truth = np.array([[1, 1], [1, 1], [1, 1], [0, 0]], np.uint8)
    figures = measure(logits, truth, ("a", "b"), MULTILABEL)
    assert figures["ece"] == pytest.approx(0, abs=1e-6) and figures["accuracy"] == 0.75
    assert figures["items"] == 4


def test_nothing_to_find_and_nothing_answered_is_perfect() -> None:
    figures = measure(np.full((3, 2), -9, np.float32), np.zeros((3, 2), np.uint8), ("a", "b"), MULTILABEL)
    assert (figures["accuracy"], figures["micro_f1"], figures["macro_f1"]) == (1, 1, 1)
    assert "auroc" not in figures and "mean_average_precision" not in figures


def test_targets_of_another_kind_are_refused() -> None:
    logits, targets = _example()
    with pytest.raises(InvalidValue, match="multilabel takes targets"):
        measure(logits, targets, LABELS, MULTILABEL)
    with pytest.raises(InvalidValue, match="a kind is one of"):
        measure(logits, targets, LABELS, "tokens")


def test_counts_are_kept_for_every_label() -> None:
    logits, targets = _example()
    classes = cast(dict[str, dict[str, int]], measure(logits, targets, LABELS)["classes"])
    assert list(classes) == list(LABELS)
    assert sum(each["items"] for each in classes.values()) == 200
    assert sum(each["answered"] for each in classes.values()) == 200
    assert classes["never"] == {"items": 0, "right": 0, "answered": 0}


def test_extreme_logits_stay_finite() -> None:
    figures = measure(np.array([[1e30, -1e30], [-1e30, 1e30]], np.float32), np.array([0, 1]), ("a", "b"))
    assert figures["accuracy"] == 1 and figures["log_loss"] == 0


def test_held_out_predictions_are_keyed_by_content(shapes_data: Dataset) -> None:
    items = shapes_data.split(TEST)
    logits = np.random.default_rng(0).normal(size=(len(items), 3)).astype(np.float32)
    predictions, figures = held_out(shapes_data, logits, shapes_data.labels)
    assert predictions.digests == tuple(sorted(item.digest for item in items))
    assert figures["items"] == len(items)
    for item, row in zip(items, logits, strict=True):
        at = predictions.digests.index(item.digest)
        assert np.array_equal(predictions.logits[at], row)
        assert shapes_data.labels[predictions.labels[at]] == item.label


def test_groups_of_the_held_out_part_reach_predictions_and_interval(shapes_data: Dataset) -> None:
    alone = shapes_data.split(TEST)
    by_three = {item.digest: f"writer {at // 3}" for at, item in enumerate(alone)}
    grouped = replace(
        shapes_data,
        items=tuple(replace(item, group=by_three.get(item.digest)) for item in shapes_data.items),
    )
    logits = np.random.default_rng(0).normal(size=(len(alone), 3)).astype(np.float32)
    predictions, figures = held_out(grouped, logits, grouped.labels)
    assert predictions.groups is not None and b"writer" not in predictions.to_bytes()
    accuracy = cast(dict[str, dict[str, float]], figures["intervals"])["accuracy"]
    assert accuracy["groups"] == len(set(by_three.values())) and accuracy["effective"] < len(alone)
    single, without = held_out(shapes_data, logits, shapes_data.labels)
    assert single.groups is None
    assert cast(float, figures["accuracy_low"]) < cast(float, without["accuracy_low"])


def test_all_right_is_no_certainty() -> None:
    truth = np.arange(18) % 3
    figures = measure(10 * np.eye(3, dtype=np.float32)[truth], truth, LABELS[:3])
    assert figures["accuracy"] == figures["accuracy_high"] == 1
    assert figures["accuracy_low"] == pytest.approx(0.824, abs=1e-3)
    intervals = cast(dict[str, dict[str, object]], figures["intervals"])
    assert intervals["accuracy"]["method"] == "wilson" and "low" not in intervals["macro_f1"]
    assert "rarest label" in str(intervals["macro_f1"]["reason"])


def test_nothing_held_out_cannot_be_measured() -> None:
    with pytest.raises(InvalidValue, match="at least one item"):
        measure(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), ("a", "b"))


def test_labels_in_another_order_are_followed(shapes_data: Dataset) -> None:
    labels = ("disc", "checks", "bars", "other")
    index = shapes_data.index(TEST)
    targets = shapes_data.targets(index, labels)
    assert [labels[number] for number in targets] == [shapes_data.items[at].label for at in index]
