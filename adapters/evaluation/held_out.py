"""A version's predictions on its test set."""

from collections.abc import Sequence

import numpy as np

from adapters.datasets.dataset import TEST, Dataset
from adapters.evaluation.measuring import measure
from registry.manifest import CLASSIFICATION, Json
from registry.predictions import Predictions


def held_out(
    dataset: Dataset, logits: np.ndarray, labels: Sequence[str], kind: str = CLASSIFICATION
) -> tuple[Predictions, dict[str, Json]]:
    """Return the predictions on the test set, and their metrics.

    Args:
        dataset: with a test part.
        logits: float32 [N, C], one row for each item of ``dataset.split("test")``, in that order.
        labels: in the order of the logits.
        kind: ``classification`` or ``multilabel``.

    Raises:
        InvalidValue: the test part is empty, holds another label, or has another size.
    """
    items = dataset.split(TEST)
    targets = dataset.targets(dataset.index(TEST), labels)
    groups = [item.unit for item in items]
    predictions = Predictions.of([item.digest for item in items], targets, logits, groups)
    return predictions, measure(predictions.logits, predictions.labels, labels, kind, predictions.groups)
