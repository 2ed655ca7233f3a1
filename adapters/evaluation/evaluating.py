"""A version's answers on the held-out part, beside what they are held against."""

from collections.abc import Mapping, Sequence
from math import isfinite

import numpy as np

from adapters.datasets.dataset import TEST, TRAIN, VALIDATION, Dataset
from adapters.evaluation.evidence import Evidence
from adapters.evaluation.held_out import held_out
from adapters.evaluation.mistakes import worst
from adapters.evaluation.plane import feature_map
from adapters.evaluation.yardsticks import (
    FROZEN,
    LOGISTIC,
    RAW,
    Standing,
    Yardstick,
    frozen_yardstick,
    raw_yardstick,
    teachable,
)
from registry.manifest import Json
from registry.predictions import Predictions
from registry.progress import SILENT, Progress


def evaluate(
    dataset: Dataset,
    logits: np.ndarray,
    features: np.ndarray | None,
    labels: Sequence[str],
    kind: str,
    source_features: tuple[np.ndarray, np.ndarray] | None,
    history: Sequence[Mapping[str, float]],
    progress: Progress = SILENT,
) -> tuple[Predictions, dict[str, Json], Evidence]:
    """Measure a version on the test part, and two yardsticks beside it.

    Args:
        dataset: with a test part.
        logits: the version's, float32 [N, C], one row for each item of ``dataset.part("test")``, in that order.
        features: its features of the same items, float32 [N, D], or None.
        labels: in the order of the logits.
        kind: ``classification`` or ``multilabel``.
        source_features: the untouched source's features, float32, of the training and validation items
            [M, D], in the order of ``dataset.index("train", "validation")``, and of the test items [N, D]; None
            where there is no source to speak of.
        history: figures of each epoch or search step.
        progress: who watches.

    Returns:
        the predictions; the figures of ``measure``, and under ``yardsticks`` those of ``Yardstick``, by name, of
        the yardsticks that the training part allows; and the evidence.

    Raises:
        InvalidValue: the test part is empty, holds another label, or has another size.
    """
    predictions, figures = held_out(dataset, logits, labels, kind)
    targets = dataset.targets(dataset.index(TRAIN, VALIDATION), labels)
    stood: dict[str, Standing] = {}
    # Where a source is taken as it is there may be nothing to learn from: the figures then stand alone.
    if teachable(targets):
        with progress.step("baseline on the raw inputs"):
            stood[RAW] = raw_yardstick(dataset, labels)
        if source_features is not None:
            with progress.step("baseline on the source's features"):
                stood[FROZEN] = frozen_yardstick(source_features[0], targets, source_features[1], len(labels))
    sticks = {name: standing.against(predictions, dataset) for name, standing in stood.items()}
    if sticks:
        figures["yardsticks"] = {name: stick.to_json() for name, stick in sticks.items()}
    digests = tuple(item.digest for item in dataset.part(TEST))
    with progress.step("map of the features"):
        mapped = None if features is None else feature_map(features, digests)
    evidence = Evidence(
        history=tuple({name: x for name, x in step.items() if isfinite(x)} for step in history),
        map=mapped,
        mistakes=worst(predictions, dataset, labels),
        yardsticks={name: _kept(stick) for name, stick in sticks.items()},
    )
    return predictions, figures, evidence


def _kept(stick: Yardstick) -> dict[str, Json]:
    """Return what the evidence holds of a yardstick."""
    kept: dict[str, Json] = {"learnt_from": stick.learnt_from, "right": list(stick.hits)}
    return kept if stick.method == LOGISTIC else kept | {"method": stick.method}
