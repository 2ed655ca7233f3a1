"""How good answers are: the figures of a version, by the kind of its head."""

from collections.abc import Sequence

import numpy as np

from adapters.evaluation.classification import classification
from adapters.evaluation.multilabel import multilabel
from registry.errors import InvalidValue
from registry.manifest import CLASSIFICATION, KINDS, MULTILABEL, Json
from registry.quoting import quoted


def measure(
    logits: np.ndarray,
    targets: np.ndarray,
    labels: Sequence[str],
    kind: str = CLASSIFICATION,
    groups: np.ndarray | None = None,
) -> dict[str, Json]:
    """Return the figures of a classifier.

    Of both kinds: ``items``; ``accuracy`` with ``accuracy_low`` and ``accuracy_high``, an interval of
    95 %; ``macro_f1``, the mean over the labels that occur in the targets or the answers; ``log_loss`` in
    nats; ``ece``, the expected calibration error over 15 bins; ``auroc``, one label against the rest, the mean
    over the labels for which it is defined, left out where it is for none; and ``classes``: for each label
    ``items``, ``right`` and ``answered``.

    Of classification: ``balanced_accuracy``, the mean over the labels that occur; and ``confusion``, the counts
    of [right label][answer], left out over 100 labels.

    Of multilabel, where a label is answered when its sigmoid is above a half: ``accuracy`` counts the
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
        raise InvalidValue(f"a kind is one of {', '.join(KINDS)}, got {quoted(kind, 50)}")
    wanted = logits.shape if kind == MULTILABEL else (count,)
    if targets.shape != wanted:
        raise InvalidValue(f"{kind} takes targets {list(wanted)}, got {list(targets.shape)}")
    return (multilabel if kind == MULTILABEL else classification)(logits, targets, labels, groups)
