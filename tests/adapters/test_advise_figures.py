"""The figures that advice rests on, on data made so that they are known."""

import numpy as np
import pytest
from scipy.optimize import minimize

from adapters.advise.crossval import left_out, sample
from adapters.advise.curve import curve
from adapters.advise.intervals import above, below, mean, removed
from adapters.advise.logme import logme
from adapters.heads import ridge_head
from adapters.sources.sketch import FeatureSketch
from registry.errors import DatasetError, InvalidValue


def blobs(
    per_class: int, classes: int, dimension: int, gap: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return clouds of deviation 1 around centres that far from the origin, and their numbers."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(classes, dimension))
    centres *= gap / np.linalg.norm(centres, axis=1, keepdims=True)
    targets = np.repeat(np.arange(classes), per_class)
    rows = centres[targets] + random.normal(size=(len(targets), dimension))
    return rows.astype(np.float32), targets


def test_evidence_is_higher_the_further_classes_are_apart() -> None:
    found = [logme(*blobs(20, 4, 16, gap), 4) for gap in (0.0, 2.0, 5.0, 10.0)]
    assert found == sorted(found)


def test_evidence_is_the_greatest_likelihood_of_a_linear_model() -> None:
    rows, targets = blobs(15, 2, 5, 2.0)
    indicator = (targets == 0) - np.mean(targets == 0)
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    centred = centred / np.sqrt(np.square(centred).mean())

    def cost(precisions: np.ndarray) -> float:
        alpha, beta = np.exp(precisions)
        covariance = np.eye(len(rows)) / beta + centred @ centred.T / alpha
        _, determinant = np.linalg.slogdet(2 * np.pi * covariance)
        return 0.5 * float(determinant + indicator @ np.linalg.solve(covariance, indicator))

    best = -minimize(cost, np.zeros(2), method="Nelder-Mead").fun / len(rows)
    assert logme(rows, targets, 2) == pytest.approx(best, abs=1e-4)


def test_evidence_does_not_depend_on_scale_or_origin() -> None:
    rows, targets = blobs(10, 3, 8, 2.0)
    assert logme(100 * rows + 7, targets, 3) == pytest.approx(logme(rows, targets, 3), abs=1e-3)


@pytest.mark.parametrize(
    "rows", [np.zeros((8, 3), np.float32), np.repeat(np.eye(4, dtype=np.float32), 2, axis=0)]
)
def test_evidence_is_finite_where_features_say_nothing_or_everything(rows: np.ndarray) -> None:
    assert np.isfinite(logme(rows, np.repeat(np.arange(4), 2), 4))


def test_evidence_of_broken_features_is_refused() -> None:
    with pytest.raises(InvalidValue, match="finite"):
        logme(np.array([[1.0], [np.nan]], np.float32), np.array([0, 1]), 2)


def test_left_out_answers_are_those_of_a_head_that_never_saw_the_item() -> None:
    rows, targets = blobs(8, 3, 6, 2.5)
    found = left_out(rows, targets, 3)
    retrained = []
    for at in range(len(rows)):
        others = np.arange(len(rows)) != at
        head = ridge_head(rows[others], targets[others], 3)
        retrained.append(int((rows[at] @ head.weight.T + head.bias).argmax()) == targets[at])
    assert np.mean(found.right == np.array(retrained)) > 0.9


def test_left_out_answers_are_at_chance_where_labels_mean_nothing() -> None:
    rows, _ = blobs(60, 2, 30, 0.0)
    targets = np.random.default_rng(1).integers(0, 2, len(rows))
    assert left_out(rows, targets, 2).accuracy.low < 0.5


def test_two_items_a_class_go_by_class_means() -> None:
    rows, targets = blobs(2, 5, 20, 12.0)
    assert left_out(rows, targets, 5).right.all()


def test_more_features_than_items_are_no_trouble() -> None:
    rows, targets = blobs(5, 4, 500, 15.0)
    assert left_out(rows, targets, 4).accuracy.value > 0.9


def test_a_class_of_one_item_cannot_be_left_out() -> None:
    with pytest.raises(DatasetError, match="has one"):
        left_out(np.eye(3, dtype=np.float32), np.array([0, 0, 1]), 2)


def test_a_sample_keeps_every_class_in_proportion() -> None:
    targets = np.repeat([0, 1, 2], [600, 300, 100])
    chosen = sample(targets, 100)
    assert len(chosen) == len(set(chosen)) == 100
    assert np.abs(np.bincount(targets[chosen]) - [60, 30, 10]).max() <= 1


def test_intervals_of_removed_error_cover_the_truth() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        base = random.gamma(2.0, size=80)
        found = removed(0.7 * base * random.gamma(4.0, 0.25, size=80), base)
        covered += found.low <= 0.3 <= found.high
    assert covered >= 180


def test_groups_widen_the_interval_of_removed_error() -> None:
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(16), 5)
    base = np.repeat(random.gamma(2.0, size=16), 5)
    errors = base * np.repeat(random.gamma(4.0, 0.2, size=16), 5)
    alone, together = removed(errors, base), removed(errors, base, groups)
    assert together.value == alone.value and together.effective < alone.effective == 80
    assert together.high - together.low > alone.high - alone.low


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        (np.repeat(np.arange(9), 4), "9 groups, 10 are needed"),
        (np.zeros(36, np.int64), "1 groups, 10 are needed"),
    ],
)
def test_few_groups_are_not_decidable_and_lie_on_neither_side_of_0(groups: np.ndarray, reason: str) -> None:
    found = mean(np.random.default_rng(0).uniform(0.5, 1.0, 36), groups)
    assert not found.decidable and found.reason == reason
    assert not above(found, 0) and not below(found, 1)


def test_few_examples_are_not_decidable() -> None:
    assert removed(np.full(4, 0.1), np.full(4, 0.9)).reason == "4 examples, 10 are needed"


def test_a_curve_rises_while_items_are_few_and_flattens() -> None:
    rows, targets = blobs(40, 4, 40, 2.5)
    small = curve(*blobs(6, 4, 40, 2.5), 4)
    assert small.slope is not None and small.slope.value > 0
    large = curve(rows, targets, 4)
    assert large.items == (40, 80, 160) and len(large.accuracy) == 3
    assert large.accuracy[0] < large.accuracy[-1]
    assert large.slope is not None and large.slope.low <= large.slope.value <= large.slope.high


def test_a_curve_of_two_items_a_class_has_no_slope() -> None:
    assert curve(*blobs(2, 3, 5, 3.0), 3).slope is None


def test_a_sketch_tells_near_from_far() -> None:
    random = np.random.default_rng(0)
    own = FeatureSketch.of(random.normal(size=(500, 10)).astype(np.float32))
    alike = FeatureSketch.of(random.normal(size=(100, 10)).astype(np.float32))
    apart = FeatureSketch.of((random.normal(size=(100, 10)) + 2).astype(np.float32))
    assert own.distance(alike) < 0.4 < 1.8 < own.distance(apart) <= 2
    assert own.distance(apart) == pytest.approx(apart.distance(own))


def test_a_sketch_is_read_back_as_it_was() -> None:
    sketch = FeatureSketch.of(np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32))
    read = FeatureSketch.from_bytes(sketch.to_bytes())
    assert read.count == 9 and np.array_equal(read.covariance, sketch.covariance)


@pytest.mark.parametrize("data", [b"", b"not a sketch", b"\xff" * 64])
def test_bytes_that_are_no_sketch_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidValue, match="sketch"):
        FeatureSketch.from_bytes(data)


def test_sketches_of_other_spaces_are_refused() -> None:
    random = np.random.default_rng(0)
    four, five = (FeatureSketch.of(random.normal(size=(9, size)).astype(np.float32)) for size in (4, 5))
    with pytest.raises(InvalidValue, match="one length"):
        four.distance(five)
