"""Scores and their order: by the formulas, each row by itself, few labels or many."""

import numpy as np
import pytest

from registry.manifest import CLASSIFICATION, LOGITS, MULTILABEL, Head, Wire
from services.inference.ranking import Ranking, rank

KINDS = (CLASSIFICATION, MULTILABEL)
LABELS = (1, 2, 3, 32, 33, 1000)


def head(labels: int, kind: str) -> Head:
    return Head("made", kind, Wire("head", LOGITS), tuple(f"label {place}" for place in range(labels)))


def ranked(logits: np.ndarray, kind: str, top_k: int = 5) -> list[Ranking]:
    return rank(head(logits.shape[1], kind), {LOGITS: logits.astype(np.float32)}, top_k)


def scores_of(logits: np.ndarray, kind: str) -> np.ndarray:
    exact = logits.astype(np.float32).astype(np.longdouble)
    powers = np.exp(-exact if kind == MULTILABEL else exact - exact.max())
    scores: np.ndarray = 1 / (1 + powers) if kind == MULTILABEL else powers / powers.sum()
    return scores


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", LABELS)
def test_the_best_labels_come_with_their_scores_in_order(labels: int, kind: str) -> None:
    logits = np.random.default_rng(labels).normal(scale=4.0, size=(7, labels))
    for row, ranking in zip(logits, ranked(logits, kind), strict=True):
        order = np.argsort(-row, kind="stable")[:5]
        assert [label for label, _ in ranking] == [f"label {place}" for place in order]
        np.testing.assert_allclose([score for _, score in ranking], scores_of(row, kind)[order], rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", LABELS)
def test_a_row_is_ranked_whatever_stands_beside_it(labels: int, kind: str) -> None:
    logits = np.random.default_rng(labels).normal(scale=4.0, size=(9, labels))
    assert ranked(logits, kind) == [ranked(row[None], kind)[0] for row in logits]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", LABELS)
def test_among_equals_the_first_label_comes_first(labels: int, kind: str) -> None:
    logits = np.repeat([[0.5, 1.5, 0.5]], -(-labels // 3), axis=0).reshape(1, -1)[:, :labels]
    (ranking,) = ranked(logits, kind, top_k=labels)
    order = sorted(range(labels), key=lambda place: (-logits[0, place], place))
    assert [label for label, _ in ranking] == [f"label {place}" for place in order]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("top_k", (1, 2, 5))
def test_among_more_equals_than_are_asked_for_the_first_ones_are_taken(
    labels: int, kind: str, top_k: int
) -> None:
    logits = np.resize([0.5, 1.5, 1.5, 0.5, 1.5], (1, labels))
    (ranking,) = ranked(logits, kind, top_k)
    order = sorted(range(labels), key=lambda place: (-logits[0, place], place))[:top_k]
    assert [label for label, _ in ranking] == [f"label {place}" for place in order]


@pytest.mark.parametrize("missing", (1, 997, 1000))
def test_what_is_not_a_number_comes_last(missing: int) -> None:
    logits = np.random.default_rng(missing).normal(size=(1, 1000))
    logits[0, :missing] = np.nan
    (ranking,) = ranked(logits, CLASSIFICATION)
    order = np.argsort(-logits[0], kind="stable")[:5]
    assert [label for label, _ in ranking] == [f"label {place}" for place in order]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", (3, 33))
def test_logits_of_any_size_have_scores_from_0_to_1(labels: int, kind: str) -> None:
    largest = 1e38
    logits = np.resize([largest, -largest, 0.0], (1, labels))
    (ranking,) = ranked(logits, kind, top_k=labels)
    assert all(0.0 <= score <= 1.0 for _, score in ranking)


@pytest.mark.parametrize("labels", (3, 33))
def test_more_labels_than_there_are_is_all_of_them(labels: int) -> None:
    (ranking,) = ranked(np.zeros((1, labels)), CLASSIFICATION, top_k=10**9)
    assert len(ranking) == labels
