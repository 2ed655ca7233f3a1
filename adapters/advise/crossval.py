"""Leave-one-out predictions of a head for every example.

Ridge regression to label indicators leaves each item out in closed form (Allen, "The Relationship between Variable
Selection and Data Augmentation and a Method for Prediction", 1974), so that a cut is judged in milliseconds. Where a
class has two items, one is all that is left of it when the other is taken out: the nearest mean, which needs no
covariance, then answers.
"""

from dataclasses import dataclass

import numpy as np

from adapters.heads.search import GRID
from adapters.heads.standard import Standard, threads
from registry.errors import DatasetError
from registry.statistics.difference import difference
from registry.statistics.interval import Interval
from registry.statistics.share import share

PENALTIES = GRID[8:41:2]
"""Penalties tried on standardised features, strongest first: 1000 down to 1e-5, half a decade apart."""

MAX_ROWS = 1000
"""Items judged at most: more would narrow an interval that is 2 to 6 points wide by then."""

FEW = 2
"""Largest number of examples per class for which the nearest mean is used (Snell et al., "Prototypical
Networks", 2017).
"""


@dataclass(frozen=True, slots=True, eq=False)
class LeftOut:
    """Predictions for left-out examples.

    Attributes:
        scores: float64 [N, labels].
        targets: int64 [N].
        groups: of the items, int64 [N]; None where each stands alone.
    """

    scores: np.ndarray
    targets: np.ndarray
    groups: np.ndarray | None = None

    @property
    def right(self) -> np.ndarray:
        """Whether each prediction is correct, bool [N]."""
        answers: np.ndarray = self.scores.argmax(axis=1) == self.targets
        return answers

    @property
    def errors(self) -> np.ndarray:
        """Squared distance of each item's scores to its indicator, float64 [N]."""
        indicators = np.eye(self.scores.shape[1])[self.targets]
        errors: np.ndarray = np.square(self.scores - indicators).sum(axis=1)
        return errors

    @property
    def accuracy(self) -> Interval:
        """Share of correct predictions."""
        return share(self.right, self.groups)

    def lead(self, other: "LeftOut") -> Interval:
        """Return its accuracy minus another's on the same examples."""
        return difference(self.right, other.right, self.groups)


def sample(targets: np.ndarray, most: int = MAX_ROWS) -> np.ndarray:
    """Choose a stratified sample of at most a given number of examples: positions, int64, ascending."""
    if len(targets) <= most:
        return np.arange(len(targets))
    order = np.random.default_rng(0).permutation(len(targets))
    ranked = order[np.argsort(targets[order], kind="stable")]
    return np.sort(ranked[np.linspace(0, len(ranked) - 1, most).astype(np.int64)])


def left_out(
    features: np.ndarray, targets: np.ndarray, labels: int, groups: np.ndarray | None = None
) -> LeftOut:
    """Predict every example with a head that was fitted to all others.

    Args:
        features: float32 [N, D].
        targets: label numbers, int64 [N]; every class that occurs has two items or more.
        labels: number of labels.
        groups: of the items, int64 [N], which intervals go by; None where each stands alone.

    Raises:
        DatasetError: a class has a single item, there is one class alone, or a feature is not finite.
    """
    counts = np.bincount(targets, minlength=labels)
    if len(targets) == 0 or counts[counts > 0].min() < 2:
        raise DatasetError("an item can be left out where its class has another; a class here has one")
    with threads(features, labels):
        rows = Standard.of(features, targets).apply(features)
        if counts[counts > 0].min() <= FEW:
            return LeftOut(_means(rows, targets, counts), targets, groups)
        return LeftOut(_ridge(rows, targets, labels), targets, groups)


def spectrum(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return left singular vectors, float64 [N, R], and squared singular values, float64 [R], of rows [N, D].

    By way of the smaller of the two products of the rows with themselves: several times as fast as a singular value
    decomposition, and exact enough for a penalised model, which hardly uses the small values.
    """
    count, dimension = rows.shape
    values, vectors = np.linalg.eigh(rows @ rows.T if count <= dimension else rows.T @ rows)
    used = values > max(float(values[-1]), 0.0) * 1e-12
    values, vectors = values[used], vectors[:, used]
    return (vectors if count <= dimension else (rows @ vectors) / np.sqrt(values)), values


def _ridge(rows: np.ndarray, targets: np.ndarray, labels: int) -> np.ndarray:
    """Return leave-one-out scores at the penalty with the least squared error, float64 [N, labels]."""
    indicators = np.eye(labels)[targets]
    mean = indicators.mean(axis=0)
    left, squares = spectrum(rows)
    projected = left.T @ (indicators - mean)
    best: np.ndarray = indicators
    least = np.inf
    for penalty in PENALTIES:
        shrink = squares / (squares + len(rows) * penalty)
        fitted = mean + left @ (shrink[:, None] * projected)
        leverage = np.minimum((left**2) @ shrink + 1 / len(rows), 1 - 1e-9)
        scores = indicators - (indicators - fitted) / (1 - leverage[:, None])
        cost = float(np.square(scores - indicators).mean())
        if cost < least:
            best, least = scores, cost
    return best


def _means(rows: np.ndarray, targets: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the shares of labels by the distance to each class's mean of the other items, float64 [N, labels]."""
    labels = len(counts)
    sums = np.eye(labels)[targets].T @ rows
    means = sums / np.maximum(counts, 1)[:, None]
    near = rows @ means.T - 0.5 * np.square(means).sum(axis=1)
    own = (sums[targets] - rows) / (counts[targets] - 1)[:, None]
    near[np.arange(len(rows)), targets] = ((rows - 0.5 * own) * own).sum(axis=1)
    near[:, counts == 0] = -np.inf
    # Distances between random points scatter by the root of the dimension.
    near /= np.sqrt(rows.shape[1])
    odds = np.exp(near - near.max(axis=1, keepdims=True))
    shares: np.ndarray = odds / odds.sum(axis=1, keepdims=True)
    return shares
