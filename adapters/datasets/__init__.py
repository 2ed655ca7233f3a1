"""Labelled data: reading, checks, digests and splits."""

from adapters.datasets.dataset import PARTS, TEST, TRAIN, VALIDATION, Dataset
from adapters.datasets.item import Item
from adapters.datasets.loading import load

__all__ = ["PARTS", "TEST", "TRAIN", "VALIDATION", "Dataset", "Item", "load"]
