"""Heads are solved to the optimum, and are one linear layer on the features as they come."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import NearestCentroid

from adapters.heads import DEFAULT_L2, GRID, Kind, centroid_head, fit, logistic_head, ridge_head, zero_head
from adapters.parity import RELATIVE_TOLERANCE
from registry.errors import DatasetError


def _clusters(per_class: int, dimension: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(4, dimension)) * 2 + 5
    targets = np.repeat(np.arange(4), per_class)
    features = centres[targets] + random.normal(size=(len(targets), dimension)) * spread
    return features.astype(np.float32), targets


@pytest.mark.parametrize(("per_class", "dimension"), [(50, 6), (5, 60)])
def test_logistic_regression_is_scikit_learns_optimum(per_class: int, dimension: int) -> None:
    features, targets = _clusters(per_class, dimension, 3.0)
    l2 = 0.05
    head = logistic_head(features, targets, 4, l2=l2)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    reference = LogisticRegression(C=1 / (l2 * len(targets)), tol=1e-8, max_iter=5000).fit(scaled, targets)
    ours = features @ head.weight.T + head.bias
    theirs = reference.decision_function(scaled)
    centred = [scores - scores.mean(axis=1, keepdims=True) for scores in (ours, theirs)]
    assert np.abs(centred[0] - centred[1]).max() < 5e-3


def test_the_penalty_is_chosen_from_the_grid_by_what_is_left_out() -> None:
    noisy = logistic_head(*_clusters(12, 40, 8.0), 4)
    clean = logistic_head(*_clusters(12, 40, 1.0), 4)
    assert {noisy.l2, clean.l2} <= set(GRID)
    assert noisy.l2 > clean.l2
    losses = dict(noisy.search)
    assert losses[noisy.l2] <= min(losses.values()) + 1e-3
    assert len(GRID) == 45 and GRID[0] == 1e5 and GRID[-1] == pytest.approx(1e-6)


def test_one_item_a_class_takes_the_documented_penalty() -> None:
    head = logistic_head(*_clusters(1, 10, 0.5), 4)
    assert head.l2 == DEFAULT_L2 and head.search == ()


@pytest.mark.parametrize("solve", [logistic_head, ridge_head])
def test_a_head_generalises(solve: object) -> None:
    assert callable(solve)
    head = solve(*_clusters(30, 20, 2.0), 4)
    features, targets = _clusters(200, 20, 2.0, seed=1)
    scores = features @ head.weight.T + head.bias
    assert (scores.argmax(axis=1) == targets).mean() > 0.95
    shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
    confidence = (shifted / shifted.sum(axis=1, keepdims=True)).max(axis=1).mean()
    assert confidence > 0.8


def test_the_same_data_give_the_same_bits() -> None:
    first, second = (logistic_head(*_clusters(20, 30, 3.0), 4, seed=1) for _ in range(2))
    assert first.weight.tobytes() == second.weight.tobytes() and first.bias.tobytes() == second.bias.tobytes()


@pytest.mark.parametrize("solve", [logistic_head, ridge_head, centroid_head])
@pytest.mark.parametrize("per_class", [20, 1])
@pytest.mark.parametrize("columns", [slice(2, 3), slice(None)])
def test_constant_features_get_no_weight(solve: object, per_class: int, columns: slice) -> None:
    assert callable(solve)
    features, targets = _clusters(per_class, 5, 1.0)
    random = np.random.default_rng(0)
    features[:, columns] = 3.5 * (1 + 1e-7 * random.normal(size=features[:, columns].shape))
    head = solve(features, targets, 4)
    assert not head.weight[:, columns].any()
    assert np.isfinite(head.weight).all() and np.isfinite(head.bias).all()


@pytest.mark.parametrize("solve", [logistic_head, ridge_head, centroid_head])
@pytest.mark.parametrize(("size", "spread"), [(1, 1e-6), (100, 1e-2), (1e5, 1.0)])
def test_a_head_does_not_hear_the_last_bits_of_features_that_hardly_vary(
    solve: object, size: float, spread: float
) -> None:
    assert callable(solve)
    features, targets = _clusters(20, 16, 1.0)
    random = np.random.default_rng(0)
    features[:, 8:] = size + spread * random.normal(size=(len(features), 8))
    head = solve(features, targets, 4)
    elsewhere = (features * (1 + 1e-6 * random.normal(size=features.shape))).astype(np.float32)
    logits = head.logits(features)
    assert np.abs(logits - head.logits(elsewhere)).max() < RELATIVE_TOLERANCE * np.abs(logits).max() / 10


def test_a_label_without_items_still_has_its_row() -> None:
    features, targets = _clusters(20, 5, 1.0)
    head = logistic_head(features, targets, 6)
    assert head.weight.shape == (6, 5)
    assert (features @ head.weight.T + head.bias).argmax(axis=1).max() < 4


def test_features_that_are_not_finite_are_refused() -> None:
    features, targets = _clusters(5, 5, 1.0)
    features[3, 3] = np.inf
    with pytest.raises(DatasetError, match="finite"), np.errstate(invalid="ignore"):
        logistic_head(features, targets, 4)


def test_one_label_alone_is_refused() -> None:
    with pytest.raises(DatasetError, match="at least two"):
        ridge_head(np.ones((4, 3), np.float32), np.zeros(4, np.int64), 2)


def test_the_module_computes_what_the_head_says_and_draws_nothing_at_random() -> None:
    features, targets = _clusters(10, 7, 1.0)
    head = logistic_head(features, targets, 4)
    state = torch.random.get_rng_state()
    module = head.module()
    assert torch.equal(torch.random.get_rng_state(), state)
    with torch.no_grad():
        assert np.allclose(
            module(torch.from_numpy(features)).numpy(), features @ head.weight.T + head.bias, atol=1e-4
        )


def test_a_head_of_zeros_prefers_nothing() -> None:
    head = zero_head(3, 2)
    assert not head.weight.any() and not head.bias.any() and head.weight.shape == (2, 3)


def _tagged(count: int, dimension: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return features and three labels, of which an item has any, rarely the last."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, dimension)).astype(np.float32)
    scores = features[:, :3] + 0.5 * random.normal(size=(count, 3)) - [0.0, 0.3, 1.0]
    return features * 3 + 1, (scores > 0).astype(np.uint8)


@pytest.mark.parametrize("solve", [logistic_head, ridge_head])
@pytest.mark.parametrize("per_class", [6, 7, 9, 11])
def test_faint_features_are_learnt_from_though_folds_are_not_of_one_size(
    solve: object, per_class: int
) -> None:
    assert callable(solve)
    random = np.random.default_rng(per_class)
    targets = np.repeat(np.arange(3), per_class)
    features = random.normal(size=(len(targets), 6)).astype(np.float32)
    features[:, 0] += 2 * targets
    assert solve(features, targets, 3).l2 < 100


def test_faint_features_are_learnt_from_where_items_have_several_labels() -> None:
    features, targets = _tagged(53)
    head = logistic_head(features, targets, 3)
    assert head.l2 < 1
    held, wanted = _tagged(400, seed=1)
    assert ((head.logits(held) > 0) == wanted).mean() > 0.8


def test_several_labels_are_as_many_regressions_of_scikit_learns() -> None:
    features, targets = _tagged(120)
    l2 = 0.05
    head = logistic_head(features, targets, 3, l2=l2)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    ours = head.logits(features)
    for label in range(3):
        reference = LogisticRegression(C=1 / (l2 * len(targets)), tol=1e-8, max_iter=5000)
        theirs = reference.fit(scaled, targets[:, label]).decision_function(scaled)
        assert np.abs(ours[:, label] - theirs).max() < 5e-3


def test_ridge_on_several_labels_is_scikit_learns_up_to_one_scale() -> None:
    features, targets = _tagged(120)
    head = ridge_head(features, targets, 3, l2=0.1)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    theirs = Ridge(alpha=0.1 * len(targets)).fit(scaled, targets).coef_
    ours = head.weight * features.std(axis=0)
    scale = np.sum(ours * theirs) / np.sum(theirs**2)
    assert scale > 0 and np.abs(ours - scale * theirs).max() < 1e-4 * np.abs(ours).max()


def test_the_nearest_class_mean_is_scikit_learns() -> None:
    features, targets = _clusters(12, 10, 6.0)
    scaled = (features - features.mean(axis=0)) / features.std(axis=0)
    head = centroid_head(features, targets, 4)
    expected = NearestCentroid().fit(scaled, targets).predict(scaled)
    assert np.array_equal(head.logits(features).argmax(axis=1), expected)
    assert head.l2 == 0.0 and head.search == ()


def test_one_item_a_class_has_a_mean_too() -> None:
    head = centroid_head(*_clusters(1, 10, 0.5), 4)
    features, targets = _clusters(50, 10, 0.5, seed=1)
    assert (head.logits(features).argmax(axis=1) == targets).mean() > 0.95


def test_a_label_without_items_has_no_mean_to_be_near_to() -> None:
    features, targets = _clusters(20, 5, 1.0)
    assert centroid_head(features, targets, 6).logits(features).argmax(axis=1).max() < 4


@pytest.mark.parametrize(
    ("kind", "solve"), [("logistic", logistic_head), ("ridge", ridge_head), ("centroid", centroid_head)]
)
def test_a_kind_names_its_solver(kind: Kind, solve: object) -> None:
    assert callable(solve)
    data = _clusters(8, 6, 2.0)
    assert np.array_equal(fit(kind, *data, 4).weight, solve(*data, 4).weight)


def test_the_penalty_is_handed_on_and_a_centroid_has_none() -> None:
    data = _clusters(8, 6, 2.0)
    assert [fit(kind, *data, 4, l2=0.5).l2 for kind in ("logistic", "ridge", "centroid")] == [0.5, 0.5, 0.0]


def test_a_centroid_stands_for_one_label() -> None:
    with pytest.raises(DatasetError, match="take logistic or ridge"):
        fit("centroid", *_tagged(20), 3)


def test_a_sharpened_head_gives_the_same_answers_more_surely() -> None:
    features, targets = _clusters(10, 6, 2.0)
    head = ridge_head(features, targets, 4)
    assert np.allclose(head.sharpened(3.0).logits(features), 3 * head.logits(features), atol=1e-4)
    assert head.sharpened(1.0) is head
