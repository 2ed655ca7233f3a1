"""Ranks labels by their scores, from a version's outputs, for the server and the offline commands."""

from collections.abc import Mapping, Sequence
from math import exp
from typing import TypeAlias

import numpy as np

from registry.manifest import LOGITS, MULTILABEL, Head
from services.settings import DEFAULT_TOP_K

Ranking: TypeAlias = Sequence[tuple[str, float]]
"""Labels with their scores, the highest first."""

_FEW_LABELS = 32
"""Up to this many labels are ranked in plain Python, which is faster than NumPy's calls."""


def rank(head: Head, outputs: Mapping[str, np.ndarray], top_k: int = DEFAULT_TOP_K) -> list[Ranking]:
    """Return the best labels for each row, independent of other rows; of equal scores, the first label wins.

    Args:
        head: the head that answers.
        outputs: a version's outputs, including its logits, float32 [rows, labels].
        top_k: number of labels, at least 1; clamped to the labels that there are.
    """
    logits = outputs[LOGITS] if LOGITS in outputs else outputs[f"{LOGITS}.{head.name}"]
    multilabel = head.kind == MULTILABEL
    if logits.shape[1] <= _FEW_LABELS:
        return [_best_of_few(row, head.labels, top_k, multilabel=multilabel) for row in logits.tolist()]
    return [_best_of_many(row, head.labels, top_k, multilabel=multilabel) for row in logits]


def results_of(rankings: Sequence[Ranking]) -> list[dict[str, object]]:
    """Return the ``results`` of an answer of classify: one JSON object for each input, in order."""
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
    """Return the indices of a row's highest values, and the values, highest first; of equal values, the first wins.

    Only the candidates are sorted: to sort the thousand labels of a large head takes five times as long as all of
    this. NaN comes last, as in NumPy.
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
    """Return the softmax: probabilities that sum to 1."""
    highest = max(logits)
    powers = [exp(logit - highest) for logit in logits]
    total = sum(powers)
    return [power / total for power in powers]


def _probabilities(logits: list[float]) -> list[float]:
    """Return the sigmoid of each logit, without overflow for large negative ones."""
    powers = [exp(-abs(logit)) for logit in logits]
    return [
        (1.0 if logit >= 0.0 else power) / (1.0 + power) for logit, power in zip(logits, powers, strict=True)
    ]
