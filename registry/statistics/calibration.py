"""Calibration: the agreement of confidence and accuracy."""

from dataclasses import dataclass

import numpy as np

from registry.statistics.bootstrap import Statistic

ECE_BINS = 15
"""Bins of equal width, as in Guo et al., "On Calibration of Modern Neural Networks" (2017)."""


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Predictions binned by confidence.

    Attributes:
        counts: predictions in each bin, int64 [15].
        confidence: their mean confidence, float64 [15]; 0 in an empty bin.
        accuracy: share of correct predictions, float64 [15]; 0 in an empty bin.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @classmethod
    def of(cls, confidence: np.ndarray, right: np.ndarray) -> "Reliability":
        """Bin predictions by confidence.

        Args:
            confidence: probability of each prediction, float64 [N], 0 to 1.
            right: whether each was correct, bool [N].
        """
        bins = binned(confidence)
        counts = np.bincount(bins, minlength=ECE_BINS)
        filled = np.maximum(counts, 1)
        return cls(
            counts,
            np.bincount(bins, confidence, minlength=ECE_BINS) / filled,
            np.bincount(bins, right, minlength=ECE_BINS) / filled,
        )

    @property
    def error(self) -> float:
        """The expected calibration error: the mean gap between confidence and accuracy, weighted by predictions."""
        gaps = np.abs(self.confidence - self.accuracy)
        return float((gaps * self.counts).sum() / self.counts.sum())


def binned(confidence: np.ndarray) -> np.ndarray:
    """Return the bin of each confidence, int64, of any shape."""
    bins: np.ndarray = np.minimum((confidence * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    return bins


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> Statistic:
    """Return the expected calibration error over 15 bins.

    Args:
        confidence: probabilities of the predictions, float64 [N] or, several of an example, [N, L]; 0 to 1.
        right: whether each was correct, bool of the same shape.
    """
    count = len(confidence)
    gaps = np.zeros((count, ECE_BINS))
    rows, bins = np.arange(count), binned(confidence)
    for gap, at in zip((confidence - right).reshape(count, -1).T, bins.reshape(count, -1).T, strict=True):
        gaps[rows, at] += gap
    each = confidence.size / max(count, 1)

    def statistic(weights: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.abs(gaps.T @ weights).sum(axis=0) / (weights.sum(axis=0) * each)
        return found

    return statistic
