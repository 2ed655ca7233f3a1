"""Standardised features, in as few dimensions as they span."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from adapters.heads.head import LinearHead
from registry.errors import DatasetError

FLOOR = 1e-3
"""Least standard deviation, as a share of the mean one: a feature that hardly varies in training must
not be blown up by what it does later."""

FAINT = 1e-2
"""Least standard deviation, as a share of the feature's own root mean square. The last bits of a feature are not
the same in torch and in ONNX Runtime, some 1e-6 of it: a head that made a hundredfold of what little a feature
varies would make those bits heard, and the version would not answer as its model does. Of the 4,000 features of
seven networks, most of them untrained, two varied by less."""

ROUNDING = 1e-5
"""Standard deviation, in the same terms, up to which a feature counts as constant: it tells bits, not items."""

_COPIED = 8_000_000
"""Numbers that are copied at a time."""

_NARROWEST = 8
"""Columns of a block at least: of one alone numpy adds in another order, and rounds otherwise."""

SMALL = 100_000_000
"""Multiplications in one product, some 50 ms on one processor."""


@dataclass(frozen=True, slots=True)
class Standard:
    """Mean and standard deviation of features, float64 [D]; the deviation of a constant is infinite."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, targets: np.ndarray) -> "Standard":
        """Measure features, float32 [N, D].

        Raises:
            DatasetError: fewer than two labels are present, or a feature is not finite.
        """
        if targets.ndim == 1 and len(np.unique(targets)) < 2:
            raise DatasetError("a head tells labels apart: it needs items of at least two, these have one")
        mean = features.mean(axis=0, dtype=np.float64)
        deviation = np.concatenate(
            [features[:, block].std(axis=0, dtype=np.float64) for block in _blocks(features)]
        )
        if not np.isfinite(deviation).all():
            raise DatasetError(
                "expected finite features, got NaN or infinity: the source cannot take these items"
            )
        size = np.hypot(mean, deviation)
        floor = np.maximum(FLOOR * deviation.mean(), FAINT * size)
        return cls(mean, np.where(deviation > ROUNDING * size, np.maximum(deviation, floor), np.inf))

    def apply(self, features: np.ndarray) -> np.ndarray:
        """Return standardised features, float64 [N, D]."""
        standard: np.ndarray = features - self.mean
        standard /= self.deviation
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
class RowSample:
    """Rows in as few dimensions as they span.

    A penalised linear model's weights lie in the span of its rows, so nothing is lost: a rotation
    keeps every product and every norm.
    """

    values: np.ndarray
    basis: np.ndarray | None

    def restore(self, weight: np.ndarray) -> np.ndarray:
        """Return weights [D, labels] on the rows as they were."""
        restored: np.ndarray = weight if self.basis is None else self.basis @ weight
        return restored


def _blocks(features: np.ndarray) -> Iterator[slice]:
    """Yield blocks of columns, so that a copy of one in float64 is small; numpy's own takes twice the features."""
    width = max(_NARROWEST, _COPIED // max(1, len(features)))
    edges = [*range(0, max(1, features.shape[1] - _NARROWEST), width), features.shape[1]]
    for start, stop in pairwise(edges):
        yield slice(start, stop)


def threads(features: np.ndarray, problems: int) -> AbstractContextManager[object]:
    """Keep linear algebra on one thread where the products are small.

    Several gain nothing there, round differently from machine to machine, and wait for each other where
    the machine is busy (8 s instead of 0.2 s, measured on two processors that eight tasks shared).
    """
    if features.size * problems > SMALL:
        return nullcontext()
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits


def compressed(rows: np.ndarray) -> RowSample:
    """Rotate rows, float64 [N, D], into the dimensions that they span."""
    count, dimension = rows.shape
    if count >= dimension:
        return RowSample(rows, None)
    squared, left = np.linalg.eigh(rows @ rows.T)
    used = squared > squared[-1] * 1e-12
    singular = np.sqrt(squared[used])
    basis = rows.T @ (left[:, used] / singular)
    return RowSample(left[:, used] * singular, basis)
