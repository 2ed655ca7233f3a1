"""Temperature scaling: one number that makes a classifier's probabilities fit (Guo et al., 2017).

The temperature is folded into the last layer, so nothing about serving changes, and neither does
any answer: only how sure it is.
"""

import numpy as np
import torch
from torch import nn

from adapters import heads
from adapters.heads.loss import sharpest
from adapters.training import Examples, predict

BOUNDS = (-3.0, 3.0)
"""Natural logarithms between which the sharpness is looked for."""


def sharpness(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the number to multiply logits by, 1 / temperature, that has the least log loss.

    Args:
        logits: float [N, labels], of items that the classifier did not learn from.
        targets: label numbers, int64 [N]; or ones and zeros, uint8 [N, labels].
    """
    return sharpest(logits.astype(np.float64), targets, BOUNDS)


def solved(
    kind: heads.Kind, features: np.ndarray, targets: np.ndarray, labels: int, l2: float, held: np.ndarray
) -> float:
    """Return the sharpness of a solved head, found on items that a head with the same penalty never saw.

    Args:
        kind: of the head.
        features: float32 [N, D].
        targets: label numbers, int64 [N], or uint8 [N, labels].
        labels: number of labels.
        l2: the penalty in force.
        held: which items are the validation part's, bool [N]; without any the answer is 1.
    """
    if not held.any():
        return 1.0
    head = heads.fit(kind, features[~held], targets[~held], labels, l2=l2)
    return sharpness(head.logits(features[held]), targets[held])


def calibrate(network: nn.Module, head: nn.Linear, validation: Examples) -> float:
    """Scale a network's last layer in place; return the number that it was multiplied by.

    Args:
        network: with its head, on the CPU.
        head: its last layer.
        validation: what it did not learn from, at least one item.
    """
    factor = sharpness(predict(network, validation, torch.device("cpu")), validation.targets)
    with torch.no_grad():
        head.weight.mul_(factor)
        head.bias.mul_(factor)
    return factor
