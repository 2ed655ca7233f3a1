"""A source's features in a few kilobytes: enough to say how far another dataset lies from what it learnt on."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from registry.errors import InvalidValue

MAX_DIMENSION = 1024
"""Longest feature vector that is sketched: its covariance takes 4 MiB."""

MAX_ROWS = 1000
"""Rows that a version's sketch is taken over, where there are more."""

_RIDGE = 1e-3
"""Added to a covariance's diagonal as a share of its mean: few rows leave directions without any variance."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureSketch:
    """Mean and covariance of features.

    Attributes:
        count: rows they were taken over, at least 2.
        mean: float32 [D].
        covariance: float32 [D, D].
    """

    count: int
    mean: np.ndarray
    covariance: np.ndarray

    def __post_init__(self) -> None:
        dimension = len(self.mean)
        if self.count < 2 or not 1 <= dimension <= MAX_DIMENSION:
            raise InvalidValue(
                f"a sketch is of two or more rows of 1 to {MAX_DIMENSION} features, got {self.count} of {dimension}"
            )
        if self.covariance.shape != (dimension, dimension):
            raise InvalidValue(
                f"expected a covariance [{dimension}, {dimension}], got {list(self.covariance.shape)}"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.covariance).all()):
            raise InvalidValue("expected a sketch of finite features, got NaN or infinity")

    @classmethod
    def of(cls, features: np.ndarray) -> Self:
        """Sketch features, float32 [N, D].

        Raises:
            InvalidValue: there are fewer than two rows, too many features, or one is not finite.
        """
        if len(features) < 2 or features.shape[1] > MAX_DIMENSION:
            raise InvalidValue(
                f"a sketch is of two or more rows of 1 to {MAX_DIMENSION} features, got {list(features.shape)}"
            )
        covariance = np.atleast_2d(np.cov(features.astype(np.float64), rowvar=False))
        return cls(len(features), features.mean(axis=0).astype(np.float32), covariance.astype(np.float32))

    def distance(self, other: Self) -> float:
        """Return the proxy A-distance between two sketches read as Gaussians, 0 (alike) to 2 (apart).

        Ben-David et al., "Analysis of Representations for Domain Adaptation" (2006), take 2 (1 - 2 error) of a
        classifier that tells the two apart. Between Gaussians of one covariance the best linear one errs with
        probability Phi(-d / 2), d being Mahalanobis' distance of the means, so no row of either is needed. What small
        samples of equal means would make of d is taken off.

        Raises:
            InvalidValue: the features are of different lengths.
        """
        if len(self.mean) != len(other.mean):
            raise InvalidValue(
                f"expected sketches of features of one length, got {len(self.mean)} and {len(other.mean)}"
            )
        pooled = (self.covariance.astype(np.float64) + other.covariance) / 2
        pooled[np.diag_indices_from(pooled)] += _RIDGE * max(float(np.trace(pooled)) / len(pooled), 1e-12)
        gap = self.mean.astype(np.float64) - other.mean
        chance = len(gap) * (1 / self.count + 1 / other.count)
        squared = max(float(gap @ np.linalg.solve(pooled, gap)) - chance, 0.0)
        return 2 * math.erf(math.sqrt(squared) / 2 / math.sqrt(2))

    def to_bytes(self) -> bytes:
        """Return the sketch as safetensors."""
        return save({"count": np.array([self.count]), "mean": self.mean, "covariance": self.covariance})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a sketch.

        Raises:
            InvalidValue: these bytes are no sketch.
        """
        try:
            tensors = load(data)
            return cls(
                int(tensors["count"].reshape(1)[0]),
                tensors["mean"].astype(np.float32).reshape(-1),
                tensors["covariance"].astype(np.float32),
            )
        except (SafetensorError, KeyError, ValueError) as error:
            raise InvalidValue(f"expected a feature sketch in safetensors: {error}") from error
