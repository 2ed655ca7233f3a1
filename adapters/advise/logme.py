"""LogME: the evidence of a Bayesian linear model of labels given features, without any split.

You et al., "LogME: Practical Assessment of Pre-trained Models for Transfer Learning" (ICML 2021). The evidence of a
label indicator y [N] under y = F w + noise, w ~ N(0, 1/alpha), noise ~ N(0, 1/beta) is maximised over alpha and beta by
MacKay's fixed point, for each label by itself, and averaged over labels and items.
"""

import numpy as np

from adapters.advise.crossval import spectrum
from adapters.heads.standard import threads
from registry.errors import InvalidValue

_STEPS = 50
"""Most steps of the fixed-point iteration; it converges in about five (the authors stop after eleven)."""

_SETTLED = 1e-3
"""Relative change of alpha / beta at convergence, the authors' value."""

_LEAST, _MOST = 1e-9, 1e9
"""Bounds on both precisions: the iteration diverges if features explain a label completely or not at all."""


def logme(features: np.ndarray, targets: np.ndarray, labels: int) -> float:
    """Return the log evidence per example, averaged over labels, in nats; larger is better.

    Features are centred and scaled to a mean square of 1, so that spaces of different scales are comparable.
    Indicators are centred instead of using a bias.

    Args:
        features: float32 [N, D], N at least 2.
        targets: label numbers, int64 [N].
        labels: number of labels.

    Raises:
        InvalidValue: there are too few rows, or a feature is not finite.
    """
    rows = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    if len(rows) < 2 or not np.isfinite(rows).all():
        raise InvalidValue(f"expected two or more rows of finite features, got {len(rows)}")
    scale = np.sqrt(np.square(rows).mean())
    with threads(features, labels):
        left, squares = spectrum(rows / scale if scale > 0 else rows)
    indicators = np.eye(labels)[targets]
    indicators -= indicators.mean(axis=0)
    return float(
        np.mean([_evidence(squares, left.T @ each, float(each @ each), rows.shape) for each in indicators.T])
    )


def _evidence(squares: np.ndarray, projected: np.ndarray, total: float, shape: tuple[int, ...]) -> float:
    """Return the maximum log evidence of one indicator, per example.

    Args:
        squares: squared singular values of the features, float64 [R].
        projected: the indicator in their left singular vectors, float64 [R].
        total: the indicator's squared length.
        shape: of the features.
    """
    count, dimension = shape
    alpha, beta = 1.0, 1.0
    outside = max(total - float(projected @ projected), 0.0)
    for _ in range(_STEPS):
        shrink = beta * squares / (alpha + beta * squares)
        weights = float(np.sum(squares * (beta * projected / (alpha + beta * squares)) ** 2))
        error = float(np.sum(((1 - shrink) * projected) ** 2)) + outside
        used = float(shrink.sum())
        before = alpha / beta
        alpha = float(np.clip(used / max(weights, _LEAST), _LEAST, _MOST))
        beta = float(np.clip(max(count - used, _LEAST) / max(error, _LEAST), _LEAST, _MOST))
        if abs(alpha / beta - before) <= _SETTLED * before:
            break
    denominator = alpha + beta * squares
    weights = float(np.sum(squares * (beta * projected / denominator) ** 2))
    error = float(np.sum((alpha * projected / denominator) ** 2)) + outside
    determinant = float(np.log(denominator).sum()) + (dimension - len(squares)) * np.log(alpha)
    likelihood = count * np.log(beta / (2 * np.pi)) - beta * error
    prior = dimension * np.log(alpha) - alpha * weights
    return 0.5 * float(likelihood + prior - determinant) / count
