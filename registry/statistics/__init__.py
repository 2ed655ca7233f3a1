"""Metrics of predictions, their confidence intervals, and tests; needs NumPy only."""

from registry.statistics.bootstrap import FEWEST, Metric, bca
from registry.statistics.calibration import ECE_BINS, Reliability
from registry.statistics.difference import difference, difference_of_counts
from registry.statistics.effective import effective_number, numbered
from registry.statistics.interval import LEVEL, Interval
from registry.statistics.mcnemar import mcnemar, randomisation
from registry.statistics.metrics import classification_metrics, multilabel_metrics
from registry.statistics.probabilities import log_softmax, sigmoid
from registry.statistics.share import share

__all__ = [
    "ECE_BINS",
    "FEWEST",
    "LEVEL",
    "Interval",
    "Metric",
    "Reliability",
    "bca",
    "classification_metrics",
    "difference",
    "difference_of_counts",
    "effective_number",
    "log_softmax",
    "mcnemar",
    "multilabel_metrics",
    "numbered",
    "randomisation",
    "share",
    "sigmoid",
]
