"""A temperature makes a classifier's probabilities fit, and changes none of its answers."""

from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from adapters import heads
from adapters.calibration import calibrate, sharpness, solved
from adapters.datasets.rows import DenseRows
from adapters.evaluation import measure
from adapters.sources.stages import StageRun
from adapters.training import Examples, predict

CPU = torch.device("cpu")


def _drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits, float64 [N, 4], and labels drawn by the probabilities that they give."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=(count, 4))
    return logits, (logits + random.gumbel(size=logits.shape)).argmax(axis=1)


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_a_known_scale_is_found(scale: float) -> None:
    logits, targets = _drawn(5000)
    assert sharpness(scale * logits, targets) == pytest.approx(1 / scale, rel=0.06)


@pytest.mark.parametrize("scale", [0.2, 1.0, 5.0])
def test_a_known_scale_is_found_where_items_have_several_labels(scale: float) -> None:
    random = np.random.default_rng(0)
    logits = 2 * random.normal(size=(2000, 3))
    targets = (random.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.uint8)
    assert sharpness(scale * logits, targets) == pytest.approx(1 / scale, rel=0.06)


def test_answers_that_are_all_right_are_sharpened_to_the_bound_and_no_further() -> None:
    logits = np.eye(3)[np.arange(30) % 3]
    assert sharpness(logits, np.arange(30) % 3) == pytest.approx(np.exp(3), rel=0.01)


def test_a_networks_last_layer_is_scaled_and_its_answers_stay() -> None:
    logits, targets = _drawn(600)
    body = StageRun(OrderedDict(same=nn.Identity()), [()], "pixels")
    head = nn.Linear(4, 4)
    with torch.no_grad():
        head.weight.copy_(6 * torch.eye(4))
        head.bias.copy_(torch.tensor([0.5, 0.0, 0.0, -0.5]))
    network = nn.Sequential(body, head)
    validation = Examples(DenseRows({"h": logits.astype(np.float32)}), np.arange(600), targets)
    before = predict(network, validation, CPU)
    factor = calibrate(network, head, validation)
    after = predict(network, validation, CPU)
    assert factor == pytest.approx(1 / 6, rel=0.15)
    np.testing.assert_allclose(after, factor * before, rtol=1e-4, atol=1e-4)
    labels = ("a", "b", "c", "d")
    first, second = (measure(each, targets, labels) for each in (before, after))
    assert first["accuracy"] == second["accuracy"]
    assert sharpness(after, targets) == pytest.approx(1.0, rel=0.02)


def _clusters() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(2)
    targets = np.arange(120) % 3
    return (random.normal(size=(120, 5)) + 0.8 * np.eye(3, 5)[targets]).astype(np.float32), targets


@pytest.mark.parametrize("kind", ["logistic", "ridge", "centroid"])
def test_a_solved_head_is_judged_on_items_that_it_did_not_see(kind: heads.Kind) -> None:
    features, targets = _clusters()
    held = np.arange(120) % 4 == 0
    found = solved(kind, features, targets, 3, 1e-5, held)
    head = heads.fit(kind, features[~held], targets[~held], 3, l2=1e-5)
    assert found == sharpness(head.logits(features[held]), targets[held])
    assert 0.05 < found < 5


def test_without_a_validation_part_nothing_is_scaled() -> None:
    features, targets = _clusters()
    assert solved("logistic", features, targets, 3, 0.1, np.zeros(120, bool)) == 1.0
