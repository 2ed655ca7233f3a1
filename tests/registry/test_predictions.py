"""Stored predictions: one form, read back as they were, anything else refused."""

import numpy as np
import pytest
from safetensors.numpy import save

from registry.digests import Digest
from registry.errors import InvalidValue
from registry.predictions import Predictions

DIGESTS = [Digest.of(bytes([number])) for number in range(6)]
LABELS = np.array([0, 1, 2, 0, 1, 2], np.int64)
SEVERAL = np.array([[0, 1, 1], [0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.uint8)
LOGITS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)


def test_they_are_read_back_as_they_were() -> None:
    stored = Predictions.of(DIGESTS, LABELS, LOGITS)
    read = Predictions.parse(stored.to_bytes())
    assert read.digests == tuple(sorted(DIGESTS))
    for number, digest in enumerate(DIGESTS):
        at = read.digests.index(digest)
        assert read.labels[at] == LABELS[number]
        assert np.array_equal(read.logits[at], LOGITS[number])


def test_items_of_any_number_of_labels_are_read_back_as_they_were() -> None:
    read = Predictions.parse(Predictions.of(DIGESTS, SEVERAL, LOGITS).to_bytes())
    assert read.multilabel and not Predictions.of(DIGESTS, LABELS, LOGITS).multilabel
    for number, digest in enumerate(DIGESTS):
        assert np.array_equal(read.labels[read.digests.index(digest)], SEVERAL[number])


def test_an_answer_is_right_where_its_first_label_is_or_all_of_several() -> None:
    logits = np.array([[2, 1], [2, 1], [-1, 1]], np.float32)
    one = Predictions.of(DIGESTS[:3], np.array([0, 1, 1]), logits)
    several = Predictions.of(DIGESTS[:3], np.array([[1, 0], [1, 1], [0, 1]], np.uint8), logits)
    by_item = dict(zip(one.digests, zip(one.right(), several.right(), strict=True), strict=True))
    assert [by_item[digest] for digest in DIGESTS[:3]] == [(True, False), (False, True), (True, True)]


def test_the_order_in_which_items_came_does_not_change_the_bytes() -> None:
    order = np.random.default_rng(1).permutation(6)
    shuffled = Predictions.of([DIGESTS[at] for at in order], LABELS[order], LOGITS[order])
    assert shuffled.to_bytes() == Predictions.of(DIGESTS, LABELS, LOGITS).to_bytes()


def _tensors(**changed: np.ndarray) -> dict[str, np.ndarray]:
    good = Predictions.of(DIGESTS, LABELS, LOGITS)
    return {"items": good.items, "labels": good.labels, "logits": good.logits} | changed


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (_tensors(labels=LABELS.astype(np.int32)), "int64"),
        (_tensors(logits=LOGITS.astype(np.float64)), "float32"),
        (_tensors(logits=LOGITS[:5]), r"\[N, C\]"),
        (_tensors(labels=LABELS + 1), "labels are 0 up to 3"),
        (_tensors(labels=LABELS - 1), "labels are 0 up to 3"),
        (_tensors(labels=SEVERAL[:, :2]), r"uint8 \[N, C\]"),
        (_tensors(labels=SEVERAL * 2), "labels are 0 up to 2"),
        (_tensors(logits=np.full_like(LOGITS, np.nan)), "finite"),
        (_tensors(items=np.zeros((6, 32), np.uint8)), "each once"),
        (_tensors(items=_tensors()["items"][::-1].copy()), "order"),
        (_tensors(more=LABELS), "items, labels and logits"),
        ({"items": LABELS}, "items, labels and logits"),
    ],
)
def test_anything_else_is_refused(tensors: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        Predictions.parse(save(tensors))


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"\xff" * 8 + b"{}"])
def test_bytes_of_another_kind_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidValue, match="expected stored predictions"):
        Predictions.parse(data)


def test_an_item_that_stands_twice_is_refused() -> None:
    with pytest.raises(InvalidValue, match="each once"):
        Predictions.of([DIGESTS[0]] * 6, LABELS, LOGITS)


def test_groups_are_kept_where_examples_share_one() -> None:
    groups = [Digest.of(b"a"), Digest.of(b"b"), *([Digest.of(b"a")] * (len(DIGESTS) - 2))]
    stored = Predictions.of(DIGESTS, LABELS, LOGITS, groups)
    read = Predictions.parse(stored.to_bytes())
    assert read.groups is not None and read.to_bytes() == stored.to_bytes()
    of = dict(zip(read.digests, (row.tobytes() for row in read.groups), strict=True))
    assert of[DIGESTS[0]] == of[DIGESTS[-1]] != of[DIGESTS[1]]


def test_without_groups_bytes_are_as_they_were() -> None:
    alone = Predictions.of(DIGESTS, LABELS, LOGITS, DIGESTS)
    assert alone.groups is None
    assert alone.to_bytes() == Predictions.of(DIGESTS, LABELS, LOGITS).to_bytes()


def test_groups_of_another_form_are_refused() -> None:
    good = Predictions.of(DIGESTS, LABELS, LOGITS)
    same = np.zeros((len(DIGESTS), 32), np.uint8)
    for groups in (same[:-1], same[:, :8], same.astype(np.int64), good.items):
        with pytest.raises(InvalidValue, match="groups"):
            Predictions(good.items, good.labels, good.logits, groups)
    with pytest.raises(InvalidValue, match="group of each"):
        Predictions.of(DIGESTS, LABELS, LOGITS, DIGESTS[:-1])
