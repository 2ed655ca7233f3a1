"""Temperature scaling: one number that calibrates a classifier's probabilities (Guo et al., 2017).

The temperature is folded into the last layer. So serving does not change, and predictions keep their labels:
only their confidence changes.
"""

import numpy as np
import torch
from torch import nn

from adapters import heads
from adapters.heads.loss import sharpest
from adapters.training import Examples, predict

BOUNDS = (-3.0, 3.0)
"""Search range of the sharpness, as natural logarithms."""


def sharpness(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the number to multiply logits by, 1 / temperature, that has the least log loss.

    Args:
        logits: float [N, labels], of examples that the classifier was not trained on.
        targets: label indices, int64 [N]; or indicators, uint8 [N, labels].
    """
    return sharpest(logits.astype(np.float64), targets, BOUNDS)


def solved(
    kind: heads.Kind, features: np.ndarray, targets: np.ndarray, labels: int, l2: float, held: np.ndarray
) -> float:
    """Return the sharpness of a solved head, found on examples held out from a head with the same penalty.

    Args:
        kind: kind of the head.
        features: float32 [N, D].
        targets: label indices, int64 [N], or indicators, uint8 [N, labels].
        labels: number of labels.
        l2: the penalty.
        held: which examples are in the validation set, bool [N]; without any the result is 1.
    """
    if not held.any():
        return 1.0
    head = heads.fit(kind, features[~held], targets[~held], labels, l2=l2)
    return sharpness(head.logits(features[held]), targets[held])


def calibrate(network: nn.Module, head: nn.Linear, validation: Examples) -> float:
    """Scale a network's last layer in place and return the factor.

    Args:
        network: with its head, on the CPU.
        head: its last layer.
        validation: data that it was not trained on, at least one example.
    """
    factor = sharpness(predict(network, validation, torch.device("cpu")), validation.targets)
    with torch.no_grad():
        head.weight.mul_(factor)
        head.bias.mul_(factor)
    return factor
