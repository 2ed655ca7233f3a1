"""Two versions side by side, on items that neither has seen."""

from dataclasses import replace

import numpy as np
import pytest

from registry.digests import Digest
from registry.errors import InvalidValue
from registry.predictions import Predictions
from registry.registry import Registry
from registry.statistics.pairing import pair
from tests.builders import LABELS, publish, tiny
from tests.registry.answering import ITEMS, TRUTH, answering, answers, silent

BOTH = (LABELS, LABELS)


def test_the_odd_ones_out_are_counted() -> None:
    first, second = answers(0, sureness=3), answers(1, sureness=0)
    found = pair((first, second), BOTH, frozenset())
    assert found.items == len(ITEMS) and found.unmatched == (0, 0)
    assert found.right == (first.right().sum(), second.right().sum())
    assert found.right[0] - found.right[1] == found.only[0] - found.only[1]
    assert found.difference.value == pytest.approx((found.right[0] - found.right[1]) / found.items)
    assert found.difference.low > 0 and found.p is not None and found.p < 0.05


def test_items_that_one_of_them_learnt_from_do_not_count() -> None:
    found = pair((answers(0), answers(1)), BOTH, frozenset(ITEMS[:7]))
    assert (found.items, found.learnt) == (len(ITEMS) - 7, 7)


def test_items_that_one_of_them_was_not_asked_do_not_count() -> None:
    found = pair((answers(0), answers(1, ITEMS[:25])), BOTH, frozenset())
    assert (found.items, found.unmatched) == (25, (15, 0))
    assert not pair((answers(0), answers(1, ())), BOTH, frozenset()).items


def test_labels_are_compared_by_name() -> None:
    order = [2, 0, 1]
    other = answers(1)
    turned = Predictions(
        other.items, np.argsort(order)[other.labels], np.ascontiguousarray(other.logits[:, order])
    )
    names = tuple(LABELS[at] for at in order)
    found = pair((answers(0), turned), (LABELS, names), frozenset())
    assert found == pair((answers(0), other), BOTH, frozenset())


def test_items_whose_label_has_changed_do_not_count() -> None:
    changed = TRUTH.copy()
    changed[:4] = (changed[:4] + 1) % 3
    other = Predictions.of(ITEMS, changed, np.zeros((len(ITEMS), 3), np.float32))
    assert pair((answers(0), other), BOTH, frozenset()).relabelled == 4


def test_several_labels_are_right_together() -> None:
    truth = np.eye(3, dtype=np.uint8)[TRUTH]
    logits = np.where(truth > 0, 1, -1).astype(np.float32)
    first, second = Predictions.of(ITEMS, truth, logits), Predictions.of(ITEMS, truth, -logits)
    found = pair((first, second), BOTH, frozenset())
    assert found.right == (len(ITEMS), 0)
    turned = Predictions.of(ITEMS, truth[:, ::-1].copy(), np.ascontiguousarray(logits[:, ::-1]))
    assert pair((first, turned), (LABELS, LABELS[::-1]), frozenset()).right == (len(ITEMS), len(ITEMS))
    with pytest.raises(InvalidValue, match="different"):
        pair((first, second), (LABELS, ("other", *LABELS[1:])), frozenset())
    with pytest.raises(InvalidValue, match="any number"):
        pair((first, answers(0)), BOTH, frozenset())


def test_what_an_ancestor_learnt_from_does_not_count_either(registry: Registry) -> None:
    grandparent = publish(registry, answering(tiny(seed=1), answers(1), train=ITEMS[:5]))
    parent = publish(registry, answering(tiny("digits/a", seed=2, parent=grandparent.digest), answers(2)))
    child = publish(registry, answering(tiny("a/b", seed=3, parent=parent.digest), answers(3)))
    other = publish(registry, answering(tiny("letters/b", seed=4), answers(4), train=ITEMS[5:8]))
    found = registry.compare(child.ref, other.ref).paired()
    assert (found.items, found.learnt) == (len(ITEMS) - 8, 8)


def test_segments_labels_and_spaces_are_set_side_by_side(registry: Registry) -> None:
    first = publish(registry, answering(tiny(seed=1), answers(1)))
    same = publish(registry, answering(tiny(seed=2), answers(2)))
    other = publish(registry, silent(tiny(seed=3, trunk_seed=1, labels=("a", "b"))))
    found = registry.compare(first.ref, same.ref)
    assert [segment.name for segment in found.shared] == ["pool"]
    assert found.shared_bytes == found.shared[0].bytes and min(found.own_bytes) > 0
    assert found.labels_equal and found.space_equal
    apart = registry.compare(first.ref, other.ref)
    assert not apart.shared and apart.labels_equal is False and apart.space_equal is False


def test_a_feature_extractor_has_no_answers_to_compare(registry: Registry) -> None:
    first = publish(registry, answering(tiny(seed=1), answers(1)))
    features = publish(registry, tiny(seed=2, labels=None))
    found = registry.compare(first.ref, features.ref)
    assert found.labels_equal is None
    document = found.to_json()
    assert document["paired"] is None and "digits@2 has no predictions" in str(document["unpaired"])


def test_figures_that_are_no_numbers_are_left_out(registry: Registry) -> None:
    version = silent(tiny(seed=1))
    richer = replace(
        version, manifest=replace(version.manifest, metrics={"accuracy": 0.5, "classes": {}, "items": 3})
    )
    ours, theirs = publish(registry, richer), publish(registry, silent(tiny(seed=2)))
    assert registry.compare(ours.ref, theirs.ref).metrics == {"accuracy": (0.5, 0.52), "items": (3, None)}


def test_no_item_in_common_is_no_verdict() -> None:
    found = pair((answers(0), answers(1)), BOTH, frozenset(ITEMS))
    assert found.to_json()["p"] is None
    with pytest.raises(InvalidValue, match="share no"):
        _ = found.difference


def test_examples_of_one_group_count_as_fewer() -> None:
    first, second = answers(0, sureness=3), answers(1, sureness=0)
    by_ten = [Digest.of(bytes([at // 10])) for at in range(len(ITEMS))]
    grouped = Predictions.of(ITEMS, TRUTH, second.logits[_places(second)], by_ten)
    found, lone = pair((first, grouped), BOTH, frozenset()), pair((first, second), BOTH, frozenset())
    assert found.difference.groups == 4 and found.difference.effective < found.items
    assert lone.difference.groups == lone.difference.effective == lone.items
    assert found.difference.value == lone.difference.value
    assert found.difference.low < lone.difference.low
    assert found.p is not None and lone.p is not None and found.p > lone.p
    assert found.to_json()["method"] == "tango" and found.to_json()["groups"] == 4


def _places(predictions: Predictions) -> list[int]:
    """Return where each of the items stands among the predictions."""
    return [predictions.digests.index(item) for item in ITEMS]
