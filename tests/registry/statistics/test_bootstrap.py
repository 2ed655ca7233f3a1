"""Bootstrap intervals, beside scipy's, and where there are none."""

from math import sqrt

import numpy as np
import pytest
from scipy import stats

from registry.statistics import Metric, bca, classification_metrics, multilabel_metrics
from registry.statistics.bootstrap import FEWEST


def mean_of(values: np.ndarray) -> Metric:
    return Metric(lambda weights: values @ weights / weights.sum(axis=0))


def at_level(groups: int) -> float:
    """The level at which the plain interval has the tails of Student's t, widened for so many groups."""
    wide = stats.t.ppf(0.975, groups - 1) * sqrt(groups / (groups - 1))
    return float(2 * stats.norm.cdf(wide) - 1)


@pytest.mark.parametrize("count", [20, 60, 1500])
def test_an_interval_is_scipys_with_students_tails(count: int) -> None:
    values = np.random.default_rng(0).gamma(1.0, size=count)
    found = bca({"mean": mean_of(values)}, count)["mean"]
    expected = stats.bootstrap(
        (values,), np.mean, confidence_level=at_level(count), n_resamples=20_000, method="BCa", rng=1
    ).confidence_interval
    spread = expected.high - expected.low
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.06 * spread)
    assert found.value == pytest.approx(values.mean()) and found.method == "bca"


def test_groups_are_drawn_whole() -> None:
    random = np.random.default_rng(0)
    values = np.repeat(random.gamma(1.0, size=40), 5)
    grouped = bca({"mean": mean_of(values)}, 200, np.repeat(np.arange(40), 5))["mean"]
    alone = bca({"mean": mean_of(values[::5])}, 40)["mean"]
    assert (grouped.low, grouped.high) == pytest.approx((alone.low, alone.high))
    assert (grouped.examples, grouped.groups, grouped.effective) == (200, 40, 40)


def test_equal_predictions_have_equal_intervals() -> None:
    values = np.random.default_rng(0).random(50)
    assert bca({"mean": mean_of(values)}, 50) == bca({"mean": mean_of(values)}, 50)


def test_under_ten_groups_nothing_is_decidable() -> None:
    values = np.random.default_rng(0).random(45)
    found = bca({"mean": mean_of(values)}, 45, np.arange(45) // 5)["mean"]
    assert not found.decidable and found.reason == "it takes 10 groups, and there are 9"
    assert bca({"mean": mean_of(values[:9])}, 9)["mean"].reason == "it takes 10 examples, and there are 9"
    assert bca({"mean": mean_of(values[:FEWEST])}, FEWEST)["mean"].decidable


def test_what_never_varies_is_not_decidable() -> None:
    found = bca({"mean": mean_of(np.ones(50))}, 50)["mean"]
    assert not found.decidable and found.value == 1 and "same in every resample" in found.reason


def test_what_some_resamples_leave_undefined_is_not_decidable() -> None:
    there = np.arange(40) < 1
    metric = Metric(lambda weights: np.where(weights[there].sum(axis=0) > 0, weights.mean(axis=0), np.nan))
    found = bca({"rare": metric}, 40)["rare"]
    assert not found.decidable and "undefined in" in found.reason


def test_a_metric_that_is_undefined_has_no_interval() -> None:
    assert not bca({"never": Metric(lambda weights: np.full(weights.shape[1], np.nan))}, 40)


def _two_labels(count: int, wrong: int, rare: int) -> tuple[np.ndarray, np.ndarray]:
    targets = (np.arange(count) < rare).astype(np.int64)
    logits = np.random.default_rng(0).random((count, 2)).astype(np.float32)
    logits[np.arange(count), targets] += 2
    logits[count - wrong :] = logits[count - wrong :, ::-1]
    return logits, targets


def test_metrics_rest_on_ten_groups_of_every_kind() -> None:
    found = bca(classification_metrics(*_two_labels(80, wrong=20, rare=4)), 80)
    assert found["macro_f1"].reason == "it takes 10 examples with the rarest label, and there are 4"
    assert not found["auroc"].decidable and found["log_loss"].decidable
    found = bca(classification_metrics(*_two_labels(80, wrong=4, rare=30)), 80)
    assert found["macro_f1"].decidable
    assert found["log_loss"].reason == "it takes 10 examples with a wrong prediction, and there are 4"
    found = bca(classification_metrics(*_two_labels(80, wrong=20, rare=30)), 80, np.arange(80) // 4)
    assert found["macro_f1"].reason == "it takes 10 groups with the rarest label, and there are 8"


def test_a_calibration_error_has_no_interval() -> None:
    found = bca(classification_metrics(*_two_labels(80, wrong=20, rare=30)), 80)["ece"]
    assert not found.decidable and found.value > 0


@pytest.mark.parametrize("groups", [None, np.arange(120) // 3])
def test_an_interval_of_every_metric_holds_it(groups: np.ndarray | None) -> None:
    random = np.random.default_rng(2)
    truth = (random.random((120, 4)) < 0.4).astype(np.uint8)
    logits = (random.normal(size=(120, 4)) + 1.5 * truth).astype(np.float32)
    targets = random.integers(0, 4, 120)
    for found in (
        bca(multilabel_metrics(logits, truth), 120, groups),
        bca(classification_metrics(logits, targets), 120, groups),
    ):
        assert all(each.low < each.value < each.high for name, each in found.items() if name != "ece")


def test_many_examples_are_left_out_by_blocks() -> None:
    values = np.random.default_rng(0).gamma(1.0, size=3000)
    found = bca({"mean": mean_of(values)}, 3000)["mean"]
    half = stats.t.ppf(0.975, 2999) * values.std(ddof=1) / sqrt(3000)
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.1 * half)
