"""The metrics of a version, by the kind of its head."""

from collections.abc import Sequence
from math import isfinite

import numpy as np

from registry.errors import InvalidValue
from registry.manifest import CLASSIFICATION, KINDS, MULTILABEL, Json
from registry.statistics import bca, classification_metrics, multilabel_metrics, share

MAX_CONFUSION_LABELS = 100


def measure(
    logits: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    kind: str = CLASSIFICATION,
    groups: np.ndarray | None = None,
) -> dict[str, Json]:
    """Return the metrics of a classifier.

    Of both kinds: ``items``; ``accuracy`` with ``accuracy_low`` and ``accuracy_high``, an interval of
    95 %; ``macro_f1``, the mean over the labels that occur in the targets or the predictions; ``log_loss`` in
    nats; ``ece``, the expected calibration error over 15 bins; ``auroc``, one label against the rest, the mean
    over the labels for which it is defined, left out where it is for none; ``classes``: for each label
    ``items``, ``right`` and ``answered``; and ``intervals``: of each metric by name, in the form of ``Interval``, by
    Wilson's score of a share and by the bootstrap of the others.

    Of classification: ``balanced_accuracy``, the mean over the labels that occur; and ``confusion``, the counts
    of [right label][prediction], left out over 100 labels.

    Of multilabel, where a label is predicted when its sigmoid is above a half: ``accuracy`` counts the
    items whose labels are all right, ``ece`` and ``log_loss`` every decision; and there are ``micro_f1`` and
    ``mean_average_precision``.

    Args:
        logits: float32 [N, C].
        targets: int64 [N]; for multilabel uint8 or bool [N, C].
        labels: C of them.
        kind: ``classification`` or ``multilabel``.
        groups: of each example, [N] or [N, bytes]: examples of one group are not independent; None where each
            stands alone.

    Raises:
        InvalidValue: there is no item, the shapes do not fit, or the kind is another.
    """
    count = len(targets)
    if count == 0 or logits.shape != (count, len(labels)):
        raise InvalidValue(
            f"expected logits [{count}, {len(labels)}] of at least one item, got {list(logits.shape)}"
        )
    if kind not in KINDS:
        raise InvalidValue(f"a kind is one of {', '.join(KINDS)}, got {kind!r:.50}")
    several = kind == MULTILABEL
    wanted = logits.shape if several else (count,)
    if targets.shape != wanted:
        raise InvalidValue(f"{kind} takes targets {list(wanted)}, got {list(targets.shape)}")
    numbers = np.arange(len(labels))
    truth = targets.astype(bool) if several else targets[:, None] == numbers
    predicted = logits > 0 if several else logits.argmax(axis=1)[:, None] == numbers
    accuracy = share((truth == predicted).all(axis=1), groups)
    metrics = (multilabel_metrics if several else classification_metrics)(logits, targets)
    values = {name: metric.value(count) for name, metric in metrics.items()}
    intervals = {"accuracy": accuracy} | bca(metrics, count, groups)
    counts = zip(
        *((each.sum(axis=0)).tolist() for each in (truth, truth & predicted, predicted)), strict=True
    )
    figures: dict[str, Json] = {
        "items": count,
        "accuracy": accuracy.value,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        **{name: value for name, value in values.items() if isfinite(value)},
        "intervals": {name: {**interval.to_json()} for name, interval in intervals.items()},
        "classes": {
            label: {"items": items, "right": right, "answered": answered}
            for label, (items, right, answered) in zip(labels, counts, strict=True)
        },
    }
    if not several and len(labels) <= MAX_CONFUSION_LABELS:
        pairs = truth.T.astype(np.int64) @ predicted.astype(np.int64)
        figures["confusion"] = [list(row) for row in pairs.tolist()]
    return figures
