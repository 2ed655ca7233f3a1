"""Whether confidence can be believed."""

from dataclasses import dataclass

import numpy as np

ECE_BINS = 15
"""Bins of equal width, as in Guo et al., "On Calibration of Modern Neural Networks" (2017)."""


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Answers sorted into bins by how confident they were.

    Attributes:
        counts: answers in each bin, int64 [15].
        confidence: their mean confidence, float64 [15]; 0 in an empty bin.
        accuracy: share of them that is right, float64 [15]; 0 in an empty bin.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @classmethod
    def of(cls, confidence: np.ndarray, right: np.ndarray) -> "Reliability":
        """Sort answers into bins.

        Args:
            confidence: probability of each answer, float64 [N], 0 to 1.
            right: whether it was right, bool [N].
        """
        bins = np.minimum((confidence * ECE_BINS).astype(np.int64), ECE_BINS - 1)
        counts = np.bincount(bins, minlength=ECE_BINS)
        filled = np.maximum(counts, 1)
        return cls(
            counts,
            np.bincount(bins, confidence, minlength=ECE_BINS) / filled,
            np.bincount(bins, right, minlength=ECE_BINS) / filled,
        )

    @property
    def error(self) -> float:
        """The expected calibration error: the mean gap between confidence and accuracy, weighted by answers."""
        gaps = np.abs(self.confidence - self.accuracy)
        return float((gaps * self.counts).sum() / self.counts.sum())


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the expected calibration error over 15 bins.

    Args:
        confidence: probability of the answer, float64 [N], 0 to 1, at least one.
        right: whether it was right, bool [N].
    """
    return Reliability.of(confidence, right).error
