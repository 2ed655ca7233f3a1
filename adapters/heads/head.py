"""A linear layer on features, and the search for its penalty."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """A linear layer and the search for its penalty.

    Attributes:
        weight: float32 [labels, D].
        bias: float32 [labels].
        l2: the penalty in force.
        search: (penalty, mean loss on the items left out) of every step of the search.
    """

    weight: np.ndarray
    bias: np.ndarray
    l2: float
    search: tuple[tuple[float, float], ...] = ()

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return logits, float32 [N, labels], of features, float32 [N, D]."""
        logits: np.ndarray = features @ self.weight.T + self.bias
        return logits

    def sharpened(self, factor: float) -> "LinearHead":
        """Return the head with its logits multiplied by a factor, 1 / temperature."""
        if factor == 1.0:
            return self
        return replace(self, weight=np.float32(factor) * self.weight, bias=np.float32(factor) * self.bias)

    def module(self) -> "nn.Linear":
        """Return the layer as a torch module."""
        import torch
        from torch import nn

        labels, dimension = self.weight.shape
        # Created without random initialisation, which would advance torch's global generator.
        with torch.device("meta"):
            layer = nn.Linear(dimension, labels)
        layer = layer.to_empty(device="cpu")
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(self.weight))
            layer.bias.copy_(torch.from_numpy(self.bias))
        return layer.eval()


def zero_head(dimension: int, labels: int) -> LinearHead:
    """Return a zero head, BiT's initialisation (Kolesnikov et al., 2020), without any random direction."""
    return LinearHead(np.zeros((labels, dimension), np.float32), np.zeros(labels, np.float32), 0.0)
