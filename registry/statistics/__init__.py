"""Metrics of predictions, intervals around them, and tests between them: numpy alone."""

from registry.statistics.difference import difference, difference_of_counts
from registry.statistics.effective import effective_number, numbered
from registry.statistics.interval import LEVEL, Interval
from registry.statistics.mcnemar import mcnemar, randomisation
from registry.statistics.share import share

__all__ = [
    "LEVEL",
    "Interval",
    "difference",
    "difference_of_counts",
    "effective_number",
    "mcnemar",
    "numbered",
    "randomisation",
    "share",
]
