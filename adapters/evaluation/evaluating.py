"""Evaluation of a version on the test set, with baselines."""

from collections.abc import Mapping, Sequence
from math import isfinite

import numpy as np

from adapters.datasets.dataset import TEST, TRAIN, VALIDATION, Dataset
from adapters.evaluation.baselines import (
    FROZEN,
    LOGISTIC,
    RAW,
    BaselineStanding,
    MeasuredBaseline,
    frozen_baseline,
    raw_baseline,
    teachable,
)
from adapters.evaluation.evidence import Evidence
from adapters.evaluation.held_out import held_out
from adapters.evaluation.mistakes import worst
from adapters.evaluation.projection import feature_map
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
    """Evaluate a version and two baselines on the test set.

    Args:
        dataset: with a test part.
        logits: the version's, float32 [N, C], one row for each item of ``dataset.split("test")``, in that order.
        features: its features of the same items, float32 [N, D], or None.
        labels: in the order of the logits.
        kind: ``classification`` or ``multilabel``.
        source_features: the untouched source's features, float32, of the training and validation items
            [M, D], in the order of ``dataset.index("train", "validation")``, and of the test items [N, D]; None
            where there is no source to speak of.
        history: figures of each epoch or search step.
        progress: shows the progress.

    Returns:
        the predictions; the figures of ``measure``, and under ``baselines`` those of ``MeasuredBaseline``, by name, of
        the baselines that the training part allows; and the evidence.

    Raises:
        InvalidValue: the test part is empty, holds another label, or has another size.
    """
    predictions, figures = held_out(dataset, logits, labels, kind)
    targets = dataset.targets(dataset.index(TRAIN, VALIDATION), labels)
    stood: dict[str, BaselineStanding] = {}
    # Where a source is taken as it is there may be nothing to learn from: the figures then stand alone.
    if teachable(targets):
        with progress.step("baseline on the raw inputs"):
            stood[RAW] = raw_baseline(dataset, labels)
        if source_features is not None:
            with progress.step("baseline on the source's features"):
                stood[FROZEN] = frozen_baseline(source_features[0], targets, source_features[1], len(labels))
    baselines = {name: standing.against(predictions, dataset) for name, standing in stood.items()}
    if baselines:
        figures["yardsticks"] = {name: baseline.to_json() for name, baseline in baselines.items()}
    digests = tuple(item.digest for item in dataset.split(TEST))
    with progress.step("map of the features"):
        mapped = None if features is None else feature_map(features, digests)
    evidence = Evidence(
        history=tuple({name: x for name, x in step.items() if isfinite(x)} for step in history),
        map=mapped,
        mistakes=worst(predictions, dataset, labels),
        baselines={name: _kept(baseline) for name, baseline in baselines.items()},
    )
    return predictions, figures, evidence


def _kept(baseline: MeasuredBaseline) -> dict[str, Json]:
    """Return what the evidence holds of a baseline."""
    kept: dict[str, Json] = {"learnt_from": baseline.learnt_from, "right": list(baseline.hits)}
    return kept if baseline.method == LOGISTIC else kept | {"method": baseline.method}
