"""Baselines are what they claim: linear models on what there was before anything was carried over."""

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from adapters.datasets import TEST, TRAIN, Dataset
from adapters.datasets.item import Item
from adapters.datasets.rows import DenseRows
from adapters.evaluation import evaluate, raw_inputs
from adapters.evaluation.baselines import frozen_baseline, raw_baseline, teachable
from registry.digests import Digest
from registry.errors import DatasetError
from registry.manifest import CLASSIFICATION, MULTILABEL
from registry.predictions import Predictions
from registry.recipe import ImageRecipe, TextRecipe


def letters(side: int = 40, per_class: int = 30) -> Dataset:
    """Pictures whose left or right half is brighter."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 100, (2 * per_class, side, side, 3), dtype=np.uint8)
    for at in range(2 * per_class):
        half = slice(0, side // 2) if at % 2 else slice(side // 2, side)
        pixels[at, :, half] += 40
    items = tuple(
        Item(Digest.of(row.tobytes()), "left" if at % 2 else "right", None, "", b"")
        for at, row in enumerate(pixels)
    )
    parts = {TRAIN: np.arange(per_class), TEST: np.arange(per_class, 2 * per_class)}
    recipe = ImageRecipe(side, side)
    return Dataset("halves", recipe, items, ("left", "right"), parts, DenseRows({"pixels": pixels}))


def messages(several: bool = False) -> Dataset:
    """Texts in which words say the label, or the labels."""
    random = np.random.default_rng(0)
    words = {"cat": ("purr", "whisker"), "dog": ("bark", "leash")}
    items = []
    for at in range(80):
        name = ("cat", "dog")[at % 2]
        chosen = [*random.choice(words[name], 2), *random.choice(["the", "a", "is", "was"], 3), f"no{at}"]
        label = (name,) if several else name
        text = " ".join(chosen)
        items.append(Item(Digest.of(text.encode()), label, None, "", text if at % 3 else (text, "and so on")))
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    recipe = TextRecipe(tokenizer.to_str(), 8, (8,))
    parts = {TRAIN: np.arange(50), TEST: np.arange(50, 80)}
    rows = DenseRows({"input_ids": np.zeros((80, 8), np.int64)})
    return Dataset("messages", recipe, tuple(items), ("cat", "dog"), parts, rows)


def accuracy(dataset: Dataset, logits: np.ndarray) -> float:
    return float((logits.argmax(axis=1) == dataset.targets(dataset.index(TEST))).mean())


def test_pictures_are_averaged_over_areas() -> None:
    dataset = letters()
    rows = raw_inputs(dataset, np.array([0, 3]))
    assert isinstance(rows, np.ndarray) and rows.shape == (2, 16 * 16 * 3)
    assert rows.mean() == pytest.approx(dataset.pixels[[0, 3]].mean(), rel=1e-5)
    # 40 pixels in 16 parts are two and a half each.
    weights = np.outer([1, 1, 0.5], [1, 1, 0.5]) / 6.25
    corner = np.tensordot(weights, dataset.pixels[0, :3, :3], axes=2)
    assert rows.reshape(2, 3, 16, 16)[0, :, 0, 0] == pytest.approx(corner, rel=1e-5)


def test_small_pictures_stay_as_they_are() -> None:
    dataset = letters(side=6, per_class=3)
    rows = np.asarray(raw_inputs(dataset, np.arange(6)))
    assert sorted(rows[0]) == pytest.approx(sorted(dataset.pixels[0].ravel()))


def test_texts_are_read_and_pairs_joined() -> None:
    rows = raw_inputs(messages(), np.array([0, 1]))
    assert rows[0].endswith("\nand so on") and "\n" not in rows[1]


def test_pixels_tell_bright_halves_apart() -> None:
    dataset = letters()
    standing = raw_baseline(dataset, dataset.labels)
    assert accuracy(dataset, standing.logits) == 1 and standing.learnt_from == 30


def test_words_tell_texts_apart() -> None:
    dataset = messages()
    assert accuracy(dataset, raw_baseline(dataset, dataset.labels).logits) == 1


def test_several_labels_are_each_told_apart() -> None:
    dataset = messages(several=True)
    logits = raw_baseline(dataset, ("bird", *dataset.labels)).logits
    truth = dataset.targets(dataset.index(TEST), ("bird", *dataset.labels))
    assert np.array_equal(logits > 0, truth > 0)


def test_a_label_that_was_never_seen_is_never_answered() -> None:
    dataset = letters()
    logits = raw_baseline(dataset, ("left", "middle", "right")).logits
    assert logits.shape == (30, 3) and not (logits.argmax(axis=1) == 1).any() and np.isfinite(logits).all()


def test_a_head_on_features_is_the_frozen_baseline() -> None:
    random = np.random.default_rng(0)
    features, targets = random.normal(size=(90, 5)).astype(np.float32), np.arange(90) % 3
    features[np.arange(90), targets] += 6
    standing = frozen_baseline(features[:60], targets[:60], features[60:], 3)
    assert (standing.logits.argmax(axis=1) == targets[60:]).mean() > 0.95 and standing.learnt_from == 60


def test_one_label_teaches_nothing() -> None:
    assert not teachable(np.zeros(0, np.int64)) and not teachable(np.ones(4, np.int64))
    with pytest.raises(DatasetError, match="two labels"):
        frozen_baseline(np.ones((4, 2), np.float32), np.ones(4, np.int64), np.ones((1, 2), np.float32), 2)


def test_a_version_is_held_against_both() -> None:
    dataset = letters()
    truth = dataset.targets(dataset.index(TEST))
    random = np.random.default_rng(0)
    logits = np.where(np.eye(2)[truth] > 0, 1, -1).astype(np.float32)
    logits[:6] *= -1
    features = logits @ random.normal(size=(2, 8)).astype(np.float32)
    source = random.normal(size=(30, 8)).astype(np.float32), random.normal(size=(30, 8)).astype(np.float32)
    predictions, figures, evidence = evaluate(
        dataset,
        logits,
        features,
        dataset.labels,
        CLASSIFICATION,
        source,
        [{"loss": 1.0, "rate": float("inf")}],
    )
    assert isinstance(predictions, Predictions) and figures["accuracy"] == pytest.approx(0.8)
    baselines = figures["yardsticks"]
    assert isinstance(baselines, dict) and set(baselines) == {"raw", "frozen"}
    raw = baselines["raw"]
    assert isinstance(raw, dict)
    assert set(raw) == {
        "accuracy", "low", "high", "difference", "difference_low", "difference_high", "intervals",
    }  # fmt: skip
    assert raw["accuracy"] == 1 and raw["difference"] == pytest.approx(-0.2)
    assert evidence.baselines["raw"] == {"learnt_from": 30, "right": [15, 15]}
    assert evidence.history == ({"loss": 1.0},)
    assert len(evidence.mistakes) == 6 and evidence.map is not None
    again = evaluate(dataset, logits, features, dataset.labels, CLASSIFICATION, source, [{"loss": 1.0}])
    assert again[2].to_bytes() == evidence.to_bytes() and again[1] == figures


def test_a_version_without_anything_to_learn_from_stands_alone() -> None:
    dataset = letters()
    tested = dataset.divided({TEST: dataset.parts[TEST]})
    logits = np.zeros((30, 2), np.float32)
    _, figures, evidence = evaluate(tested, logits, None, dataset.labels, CLASSIFICATION, None, [])
    assert "yardsticks" not in figures and evidence.map is None


def test_texts_of_several_labels_are_evaluated_whole() -> None:
    dataset = messages(several=True)
    truth = dataset.targets(dataset.index(TEST))
    logits = np.where(truth > 0, 3, -3).astype(np.float32)
    logits[0] = -logits[0]
    predictions, figures, evidence = evaluate(dataset, logits, None, dataset.labels, MULTILABEL, None, [])
    assert predictions.multilabel and figures["accuracy"] == pytest.approx(29 / 30)
    (mistake,) = evidence.mistakes
    assert mistake.thumbnail is None and mistake.excerpt
    assert set(mistake.right) ^ set(mistake.answered) == {"cat", "dog"}
