"""Linear heads on features that do not change: logistic regression and ridge, solved to the optimum.

Features are standardised for the solver and the standardisation is folded back into the weights,
so that a head is one linear layer on the features as they come.

The strength of the penalty is one of 45 values spaced evenly on a logarithmic scale, 1e5 down to
1e-6, and is chosen by cross-validation, as Kornblith et al. do ("Do Better ImageNet Models
Transfer Better?", 2019, appendix A.3). Only those that can win are tried: decade by decade from the
strongest on, until two decades in a row are worse, then the quarters of a decade around the best.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from registry.errors import DatasetError

if TYPE_CHECKING:
    from torch import nn

GRID = tuple(10.0 ** (5 - step / 4) for step in range(45))
"""Penalties, strongest first: half the squared norm of the weights, times this, is added to the mean loss."""

DEFAULT_L2 = 1e-2
DEFAULT_RIDGE_L2 = 0.3
"""Where nothing can be cross-validated: a class has one item, so that no fold can leave it out. What the
search finds on small sets of handwriting, rounded."""

FOLDS = 5
MAX_SEARCH_ROWS = 4000
"""Rows that the search looks at; the head itself is always fitted to all of them."""

_FLOOR = 1e-3
"""Least standard deviation, as a share of the mean one: a feature that hardly varies in training must
not be blown up by what it does later."""


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """A linear layer and how it was found.

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

    def module(self) -> "nn.Linear":
        """Return the layer as a torch module."""
        import torch
        from torch import nn

        labels, dimension = self.weight.shape
        # Made without drawing its start at random, which would move torch's global generator.
        with torch.device("meta"):
            layer = nn.Linear(dimension, labels)
        layer = layer.to_empty(device="cpu")
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(self.weight))
            layer.bias.copy_(torch.from_numpy(self.bias))
        return layer.eval()


def zero_head(dimension: int, labels: int) -> LinearHead:
    """Return a head that knows nothing: BiT's start (Kolesnikov et al., 2020), free of any random direction."""
    return LinearHead(np.zeros((labels, dimension), np.float32), np.zeros(labels, np.float32), 0.0)


def logistic_head(
    features: np.ndarray, targets: np.ndarray, labels: int, *, l2: float | None = None, seed: int = 0
) -> LinearHead:
    """Fit multinomial logistic regression by L-BFGS.

    Args:
        features: float32 [N, D].
        targets: label numbers, int64 [N].
        labels: how many there are, at least two.
        l2: the penalty; None chooses it by stratified cross-validation of the log loss, with as
            many folds as the rarest class has items, at most five.
        seed: of the folds.

    Raises:
        DatasetError: fewer than two labels are present, or a feature is not finite.
    """
    scale = _Standard.of(features, targets)
    search: tuple[tuple[float, float], ...] = ()
    with _threads(features, labels):
        rows = _compressed(scale.apply(features))
        start = np.zeros((rows.values.shape[1] + 1, 1, labels))
        if l2 is None:
            l2, search = _search(rows.values, targets, labels, seed)
        whole = np.full((1, len(targets)), 1 / len(targets))
        solution = _solve(rows.values, targets, whole, l2, start, _FINAL)[:, 0, :]
    return scale.fold(rows.restore(solution[:-1]), solution[-1], l2, search)


def ridge_head(
    features: np.ndarray, targets: np.ndarray, labels: int, *, l2: float | None = None
) -> LinearHead:
    """Fit ridge regression to label indicators, in closed form.

    The scores are scaled by one number that minimises the log loss of the leave-one-out scores,
    so that their softmax is a probability worth reading.

    Args:
        features: float32 [N, D].
        targets: label numbers, int64 [N].
        labels: how many there are, at least two.
        l2: the penalty; None chooses the one with the least leave-one-out error.

    Raises:
        DatasetError: fewer than two labels are present, or a feature is not finite.
    """
    scale = _Standard.of(features, targets)
    with _threads(features, labels):
        weight, bias, l2, search = _ridge(scale.apply(features), targets, labels, l2)
    return scale.fold(weight, bias, l2, search)


def _ridge(
    rows: np.ndarray, targets: np.ndarray, labels: int, l2: float | None
) -> tuple[np.ndarray, np.ndarray, float, tuple[tuple[float, float], ...]]:
    """Return weights [D, labels] and bias on standardised rows, the penalty in force, and the search for it."""
    from scipy.optimize import minimize_scalar

    indicators = np.eye(labels)[targets]
    mean = indicators.mean(axis=0)
    left, singular, right = np.linalg.svd(rows, full_matrices=False)
    projected = left.T @ (indicators - mean)

    def leave_one_out(penalty: float) -> np.ndarray:
        shrink = singular**2 / (singular**2 + len(rows) * penalty)
        fitted = mean + left @ (shrink[:, None] * projected)
        leverage = np.minimum((left**2) @ shrink + 1 / len(rows), 1 - 1e-9)
        scores: np.ndarray = indicators - (indicators - fitted) / (1 - leverage[:, None])
        return scores

    search: tuple[tuple[float, float], ...] = ()
    if l2 is None and np.unique(targets, return_counts=True)[1].min() < 2:
        l2 = DEFAULT_RIDGE_L2
    elif l2 is None:
        l2, search = _descend(lambda value: float(np.square(indicators - leave_one_out(value)).mean()))
    scores = leave_one_out(l2)
    sharpness = float(
        np.exp(
            minimize_scalar(
                lambda power: _log_loss(np.exp(power) * scores, targets), bounds=(-3, 6), method="bounded"
            ).x
        )
    )
    weight = right.T @ ((singular / (singular**2 + len(rows) * l2))[:, None] * projected)
    return sharpness * weight, sharpness * mean, l2, search


_SMALL = 100_000_000
"""Multiplications in one product, some 50 ms on one processor."""

_TIE = 1e-3
"""Log losses, in nats, that count as equal. Where classes can be separated the loss falls for ever as
the penalty weakens, and only confidence grows."""


@dataclass(frozen=True, slots=True)
class _Effort:
    """How far to go on: iterations at most, and the relative gain and the slope that are too small to go on for."""

    steps: int
    gain: float
    slope: float


_SEARCH = _Effort(100, 1e-5, 1e-4)
_FINAL = _Effort(1000, 1e-9, 1e-6)


@dataclass(frozen=True, slots=True)
class _Standard:
    """Mean and standard deviation of features, float64 [D]."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, targets: np.ndarray) -> "_Standard":
        if len(np.unique(targets)) < 2:
            raise DatasetError("a head tells labels apart: it needs items of at least two, these have one")
        mean = features.mean(axis=0, dtype=np.float64)
        deviation = features.std(axis=0, dtype=np.float64)
        if not np.isfinite(deviation).all():
            raise DatasetError(
                "expected finite features, got NaN or infinity: the source cannot take these items"
            )
        floor = _FLOOR * deviation.mean()
        return cls(mean, np.maximum(deviation, floor) if floor > 0 else np.ones_like(deviation))

    def apply(self, features: np.ndarray) -> np.ndarray:
        """Return standardised features, float64 [N, D]."""
        standard: np.ndarray = (features - self.mean) / self.deviation
        return standard

    def fold(
        self, weight: np.ndarray, bias: np.ndarray, l2: float, search: tuple[tuple[float, float], ...]
    ) -> LinearHead:
        """Return the head on raw features of one on standardised features, float64 [D, labels]."""
        raw = weight / self.deviation[:, None]
        return LinearHead(
            np.ascontiguousarray(raw.T, np.float32), (bias - self.mean @ raw).astype(np.float32), l2, search
        )


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows in as few dimensions as they span.

    A penalised linear model's weights lie in the span of its rows, so nothing is lost: a rotation
    keeps every product and every norm.
    """

    values: np.ndarray
    basis: np.ndarray | None

    def restore(self, weight: np.ndarray) -> np.ndarray:
        restored: np.ndarray = weight if self.basis is None else self.basis @ weight
        return restored


def _threads(features: np.ndarray, labels: int) -> AbstractContextManager[object]:
    """Keep linear algebra on one thread where the products are small.

    Several gain nothing there, round differently from machine to machine, and wait for each other where
    the machine is busy (8 s instead of 0.2 s, measured on two processors that eight tasks shared).
    """
    if features.size * labels * FOLDS > _SMALL:
        return nullcontext()
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits


def _compressed(rows: np.ndarray) -> _Rows:
    count, dimension = rows.shape
    if count >= dimension:
        return _Rows(rows, None)
    squared, left = np.linalg.eigh(rows @ rows.T)
    used = squared > squared[-1] * 1e-12
    singular = np.sqrt(squared[used])
    basis = rows.T @ (left[:, used] / singular)
    return _Rows(left[:, used] * singular, basis)


def _search(
    rows: np.ndarray, targets: np.ndarray, labels: int, seed: int
) -> tuple[float, tuple[tuple[float, float], ...]]:
    """Choose the penalty whose folds lose least on the items that they leave out."""
    order = np.random.default_rng(seed).permutation(len(targets))[:MAX_SEARCH_ROWS]
    rows, targets = rows[order], targets[order]
    counts = np.bincount(targets, minlength=labels)
    folds = min(FOLDS, int(counts[counts > 0].min()))
    if folds < 2:
        return DEFAULT_L2, ()
    fold = _stratified(targets, folds)
    kept = (fold[None, :] != np.arange(folds)[:, None]).astype(np.float64)
    kept /= kept.sum(axis=1, keepdims=True)
    state = np.zeros((rows.shape[1] + 1, folds, labels))

    def left_out(penalty: float) -> float:
        nonlocal state
        state = _solve(rows, targets, kept, penalty, state, _SEARCH)
        scores = np.tensordot(rows, state[:-1], axes=1) + state[-1]
        return _log_loss(scores[np.arange(len(rows)), fold], targets)

    return _descend(left_out, _TIE)


def _stratified(targets: np.ndarray, folds: int) -> np.ndarray:
    """Deal the items of every class out to the folds in turn; return each item's fold, int64 [N]."""
    fold = np.empty(len(targets), np.int64)
    ranked = np.argsort(targets, kind="stable")
    fold[ranked] = np.arange(len(targets)) % folds
    return fold


def _descend(
    cost: Callable[[float], float], tolerance: float = 0.0
) -> tuple[float, tuple[tuple[float, float], ...]]:
    """Find the strongest penalty of the grid whose cost is the least, or within a tolerance of it.

    Returns it, and every (penalty, cost) tried.
    """
    tried: dict[int, float] = {}
    for place in range(0, len(GRID), 4):
        tried[place] = cost(GRID[place])
        if place >= 8 and min(tried[place], tried[place - 4]) > min(tried.values()):
            break
    around = min(tried, key=lambda place: tried[place])
    for place in range(max(0, around - 3), min(len(GRID), around + 4)):
        if place not in tried:
            tried[place] = cost(GRID[place])
    least = min(tried.values())
    best = min(place for place, value in tried.items() if value <= least + tolerance)
    return GRID[best], tuple((GRID[place], value) for place, value in tried.items())


def _solve(
    rows: np.ndarray, targets: np.ndarray, shares: np.ndarray, l2: float, start: np.ndarray, effort: _Effort
) -> np.ndarray:
    """Solve several weighted problems on the same rows at once.

    Args:
        rows: float64 [N, D].
        targets: int64 [N].
        shares: weight of every row in every problem, float64 [F, N], each problem's adding up to 1.
        l2: penalty; the bias is free of it.
        start: weights and, as last row, bias to start from, float64 [D + 1, F, labels].
        effort: when to stop.

    Returns:
        Weights and bias, float64 [D + 1, F, labels].
    """
    from scipy.optimize import minimize

    shape = start.shape
    everyone = np.arange(len(rows))
    weighting = shares.T[:, :, None]

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        solution = flat.reshape(shape[0], -1)
        scores = (rows @ solution[:-1] + solution[-1]).reshape(len(rows), shape[1], shape[2])
        scores -= scores.max(axis=2, keepdims=True)
        right = scores[everyone, :, targets]
        np.exp(scores, out=scores)
        total = scores.sum(axis=2, keepdims=True)
        loss = float(np.sum(weighting[:, :, 0] * (np.log(total[:, :, 0]) - right)))
        scores /= total
        scores[everyone, :, targets] -= 1
        scores *= weighting
        slopes = scores.reshape(len(rows), -1)
        gradient = np.empty_like(solution)
        gradient[:-1] = rows.T @ slopes + l2 * solution[:-1]
        gradient[-1] = slopes.sum(axis=0)
        return loss + 0.5 * l2 * float(np.square(solution[:-1]).sum()), gradient.ravel()

    options = {"maxiter": effort.steps, "maxfun": 2 * effort.steps, "ftol": effort.gain, "gtol": effort.slope}
    found = minimize(objective, start.ravel(), jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x).reshape(shape)


def _log_loss(scores: np.ndarray, targets: np.ndarray) -> float:
    """Return the mean negative log probability of the right labels, for scores [N, labels]."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(targets)), targets]))
