"""Linear heads on fixed features, solved to the optimum.

Features are standardised for the solver and the standardisation is folded back into the weights,
so that a head is one linear layer on the features as they come.
"""

from typing import Literal

import numpy as np

from adapters.heads.centroid import centroid_head
from adapters.heads.head import LinearHead, zero_head
from adapters.heads.logistic import DEFAULT_L2, logistic_head
from adapters.heads.ridge import ridge_head
from adapters.heads.search import GRID
from registry.errors import DatasetError

__all__ = [
    "DEFAULT_L2",
    "GRID",
    "Kind",
    "LinearHead",
    "centroid_head",
    "fit",
    "logistic_head",
    "ridge_head",
    "zero_head",
]

Kind = Literal["logistic", "ridge", "centroid"]


def fit(
    kind: Kind,
    features: np.ndarray,
    targets: np.ndarray,
    labels: int,
    *,
    l2: float | None = None,
    seed: int = 0,
) -> LinearHead:
    """Fit a head of a kind.

    Args:
        kind: ``logistic``, ``ridge`` or ``centroid``.
        features: float32 [N, D].
        targets: label numbers, int64 [N], or ones and zeros, uint8 [N, labels].
        labels: how many there are, at least two.
        l2: the penalty; None chooses it by cross-validation. ``centroid`` has none.
        seed: of the folds.

    Raises:
        DatasetError: fewer than two labels are present, a feature is not finite, or items have several
            labels and the kind asks for one.
    """
    if kind == "logistic":
        return logistic_head(features, targets, labels, l2=l2, seed=seed)
    if kind == "ridge":
        return ridge_head(features, targets, labels, l2=l2)
    if targets.ndim == 2:
        raise DatasetError(
            "a centroid stands for one label, and these items have several; take logistic or ridge"
        )
    return centroid_head(features, targets, labels)
