"""What a version's outputs say: who answered, labels in order of their scores, feature vectors.

The server and the offline commands both make their answers here.
"""

from collections.abc import Mapping, Sequence
from math import exp
from typing import TypeAlias

import numpy as np

from registry.manifest import LOGITS, MULTILABEL, Head
from services.settings import DEFAULT_TOP_K

Ranking: TypeAlias = Sequence[tuple[str, float]]
"""Labels with their scores, the highest first."""

_FEW_LABELS = 32
"""Up to as many are ranked in plain Python, which takes less than NumPy's calls do."""


def rank(head: Head, outputs: Mapping[str, np.ndarray], top_k: int = DEFAULT_TOP_K) -> list[Ranking]:
    """Return the best labels for each row, whatever the other rows are; among equals the first one.

    Args:
        head: the head that answers.
        outputs: a program's outputs, its logits float32 [rows, labels] among them.
        top_k: how many labels, at least 1; clamped to the number of labels.
    """
    logits = outputs[LOGITS] if LOGITS in outputs else outputs[f"{LOGITS}.{head.name}"]
    multilabel = head.kind == MULTILABEL
    if logits.shape[1] <= _FEW_LABELS:
        return [_best_of_few(row, head.labels, top_k, multilabel=multilabel) for row in logits.tolist()]
    return [_best_of_many(row, head.labels, top_k, multilabel=multilabel) for row in logits]


def results_of(rankings: Sequence[Ranking]) -> list[dict[str, object]]:
    """Return the ``results`` of an answer to classify: one JSON object for each input, in order."""
    return [
        {"labels": [{"label": label, "score": score} for label, score in ranking]} for ranking in rankings
    ]


def _best_of_few(logits: list[float], labels: Sequence[str], count: int, *, multilabel: bool) -> Ranking:
    scores = _probabilities(logits) if multilabel else _shares(logits)
    places = sorted(range(len(logits)), key=logits.__getitem__, reverse=True)
    return [(labels[place], scores[place]) for place in places[:count]]


def _best_of_many(row: np.ndarray, labels: Sequence[str], count: int, *, multilabel: bool) -> Ranking:
    places, logits = _highest(row, count)
    if multilabel:
        scores = _probabilities(logits)
    else:
        total = float(np.add.reduce(np.exp(row - logits[0])))
        scores = [exp(logit - logits[0]) / total for logit in logits]
    return [(labels[place], score) for place, score in zip(places, scores, strict=True)]


def _highest(row: np.ndarray, count: int) -> tuple[list[int], list[float]]:
    """Return the places of a row's highest values and the values, the highest first, among equals the first one.

    Only those that can be among them are put in order: to sort the thousand labels of a large head takes five
    times as long as all of this. What is not a number comes last, as NumPy sorts it.
    """
    if count < len(row):
        parted = row.copy()
        parted.partition(-count)
        candidates = (row >= parted[-count]).nonzero()[0]
        if len(candidates) >= count:
            values: list[float] = row[candidates].tolist()
            order = sorted(range(len(values)), key=values.__getitem__, reverse=True)[:count]
            places: list[int] = candidates.tolist()
            return [places[each] for each in order], [values[each] for each in order]
    sorting = np.argsort(-row, kind="stable")[:count]
    return sorting.tolist(), row[sorting].tolist()


def _shares(logits: list[float]) -> list[float]:
    """Return probabilities that sum to 1: the softmax."""
    highest = max(logits)
    powers = [exp(logit - highest) for logit in logits]
    total = sum(powers)
    return [power / total for power in powers]


def _probabilities(logits: list[float]) -> list[float]:
    """Return each logit's own probability, the sigmoid, without overflow for large negative ones."""
    powers = [exp(-abs(logit)) for logit in logits]
    return [
        (1.0 if logit >= 0.0 else power) / (1.0 + power) for logit, power in zip(logits, powers, strict=True)
    ]
