"""Baselines: a linear model on the raw inputs, and one on the unchanged source's features.

The first shows what is possible without a network, the second what is possible without training one. A
version that beats neither is not worth its cost.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from adapters.datasets.dataset import TEST, TRAIN, VALIDATION, Dataset
from adapters.evaluation.dual import dual_ridge
from adapters.evaluation.raw import RawInputs, raw_inputs
from adapters.heads import DEFAULT_L2, LinearHead, logistic_head
from registry.errors import DatasetError
from registry.manifest import Json
from registry.predictions import Predictions
from registry.statistics import Interval, difference, log_softmax, share

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

RAW = "raw"
FROZEN = "frozen"

MAX_TRAINING_ITEMS = 10_000
"""Items that the raw baseline learns from at most, drawn by a seed."""

_STRENGTHS = (10.0, 1.0, 100.0)
"""Inverse penalties of scikit-learn's logistic regression that are tried on texts; the first where nothing can
be cross-validated."""

_PENALTIES = (1.0, 0.1, 0.01, 0.001)
"""Penalties of ``logistic_head`` that are tried on pictures."""

_FEWEST = 10
"""Rows below which a penalty cannot be told from another."""

LOGISTIC = "logistic regression"
RIDGE = "ridge regression"

_MAX_TERMS = 100_000
_MAX_CHARACTERS = 20_000_000
"""Of all the texts together: their n-grams take some 30 bytes a character while they are counted."""

_SOLVER_BYTES = 900_000_000
_SOLVER_COPIES = 40
"""Copies of its weights, in float64, that scikit-learn's logistic regression holds at its peak: measured."""

_IMPOSSIBLE = -30.0


@dataclass(frozen=True, slots=True)
class MeasuredBaseline:
    """A simpler model's accuracy on the same test examples.

    Attributes:
        accuracy: its own, with its interval.
        difference: the version's accuracy less this one's, paired, with its interval: above 0 where the
            version is better.
        hits: how many of the items of each label it found, in the labels' order.
        learnt_from: items that it learnt from.
        method: the linear model that it is.
    """

    accuracy: Interval
    difference: Interval
    hits: tuple[int, ...]
    learnt_from: int
    method: str = LOGISTIC

    def to_json(self) -> dict[str, Json]:
        """Return the JSON form in a manifest."""
        return {
            "accuracy": self.accuracy.value,
            "low": self.accuracy.low,
            "high": self.accuracy.high,
            "difference": self.difference.value,
            "difference_low": self.difference.low,
            "difference_high": self.difference.high,
            "intervals": {
                "accuracy": {**self.accuracy.to_json()},
                "difference": {**self.difference.to_json()},
            },
        }


@dataclass(frozen=True, slots=True, eq=False)
class BaselineStanding:
    """A baseline's predictions on the test set.

    Attributes:
        logits: float32 [N, C], in the order of ``dataset.split("test")``.
        learnt_from: items that it learnt from.
        method: the linear model that it is.
    """

    logits: np.ndarray
    learnt_from: int
    method: str = LOGISTIC

    def against(self, own: Predictions, dataset: Dataset) -> MeasuredBaseline:
        """Compare a version's predictions on the test set with it."""
        digests = [item.digest for item in dataset.split(TEST)]
        places = {digest: at for at, digest in enumerate(own.digests)}
        order = np.array([places[digest] for digest in digests], np.int64)
        other = Predictions.of(digests, own.labels[order], self.logits)
        if other.multilabel:
            hits = ((other.logits > 0) & (other.labels > 0)).sum(axis=0)
        else:
            hits = np.bincount(other.labels[other.right()], minlength=self.logits.shape[1])
        return MeasuredBaseline(
            share(other.right(), own.groups),
            difference(own.right(), other.right(), own.groups),
            tuple(hits.tolist()),
            self.learnt_from,
            self.method,
        )


def teachable(targets: np.ndarray) -> bool:
    """Tell whether there is something to learn: items of two labels, or of any number of labels each."""
    return len(targets) > 0 and (targets.ndim == 2 or bool(targets.min() != targets.max()))


def raw_baseline(dataset: Dataset, labels: Sequence[str], *, seed: int = 0) -> BaselineStanding:
    """Return a linear model's predictions on the test set from raw inputs.

    It learns from the training and validation parts: of pictures, logistic regression on standardised
    pixels of at most 16 x 16; of texts, on TF-IDF (Spärck Jones, 1972) of words, pairs of words, and 3 to 5 letters.
    Memory is bounded, at 1 GB above the data: where terms times labels are so many that logistic regression would
    take more, ridge regression in its dual form takes its place, and ``method`` tells; where texts have over 20
    million characters together, the beginning of each is read.

    Args:
        dataset: with a training and a test part.
        labels: in the order of the logits, every item's among them.
        seed: of the draw, where the training items are over 10,000.

    Raises:
        DatasetError: the training part has fewer than two labels.
    """
    learnt = dataset.index(TRAIN, VALIDATION)
    if len(learnt) > MAX_TRAINING_ITEMS:
        learnt = np.sort(np.random.default_rng(seed).choice(learnt, MAX_TRAINING_ITEMS, replace=False))
    targets = _taught(dataset.targets(learnt, labels))
    train, test = raw_inputs(dataset, learnt), raw_inputs(dataset, dataset.index(TEST))
    fit = _pictures(train, test) if isinstance(train, np.ndarray) else _texts(train, test)
    method = fit.method(len(np.unique(targets))) if isinstance(fit, _Terms) else LOGISTIC
    return BaselineStanding(_logits_of(fit, targets, len(labels), len(test)), len(learnt), method)


def frozen_baseline(
    train_features: np.ndarray, targets: np.ndarray, test_features: np.ndarray, labels: int
) -> BaselineStanding:
    """Return a logistic head's predictions on the test set from the unchanged source's features.

    Args:
        train_features: of the items that the version learnt from, float32 [M, D].
        targets: their label numbers, int64 [M], or for multilabel which labels they have, uint8 [M, C].
        test_features: of the test part, float32 [N, D].
        labels: how many there are, C.

    Raises:
        DatasetError: the items that it learns from have fewer than two labels.
    """
    fit = _features(train_features, test_features)
    return BaselineStanding(_logits_of(fit, _taught(targets), labels, len(test_features)), len(targets))


_Fit = Callable[[np.ndarray, int], np.ndarray]
"""From label numbers 0 up to a count, each present, int64 [M], to logits on the test items, [N, count]."""


def _features(train: np.ndarray, test: np.ndarray) -> _Fit:
    def fit(targets: np.ndarray, count: int) -> np.ndarray:
        return _logits(logistic_head(train, targets, count), test)

    return fit


def _pictures(train: RawInputs, test: RawInputs) -> _Fit:
    rows, held = np.asarray(train), np.asarray(test)

    def fit(targets: np.ndarray, count: int) -> np.ndarray:
        head = logistic_head(rows, targets, count, l2=_penalty(rows, targets, count))
        return _logits(head, held)

    return fit


def _logits(head: LinearHead, rows: np.ndarray) -> np.ndarray:
    logits: np.ndarray = rows @ head.weight.T + head.bias
    return logits


def _penalty(rows: np.ndarray, targets: np.ndarray, count: int) -> float:
    """Return the penalty that loses least on a fifth of the rows, out of a few: a search in full takes minutes."""
    order = np.random.default_rng(0).permutation(len(rows))
    held, kept = np.split(order, [len(order) // 5])
    if len(held) < _FEWEST or not teachable(targets[kept]):
        return DEFAULT_L2

    def loss(l2: float) -> float:
        scores = log_softmax(_logits(logistic_head(rows[kept], targets[kept], count, l2=l2), rows[held]))
        return -float(scores[np.arange(len(held)), targets[held]].mean())

    return min(_PENALTIES, key=loss)


@dataclass(frozen=True, slots=True, eq=False)
class _Terms:
    """TF-IDF of texts: sparse rows to learn from, and rows to answer."""

    train: "csr_matrix"
    test: "csr_matrix"

    def method(self, count: int) -> str:
        """Return the model that tells so many labels apart within the memory that there is."""
        classes = 1 if count == 2 else count
        needed = self.train.shape[1] * classes * 8 * _SOLVER_COPIES
        return LOGISTIC if needed <= _SOLVER_BYTES else RIDGE

    def __call__(self, targets: np.ndarray, count: int) -> np.ndarray:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV

        if self.method(count) == RIDGE:
            return dual_ridge(self.train, targets, count, self.test)
        folds = min(3, int(np.bincount(targets).min()))
        model = LogisticRegression(C=_STRENGTHS[0], max_iter=500)
        if folds > 1:
            model = GridSearchCV(model, {"C": _STRENGTHS}, cv=folds, scoring="neg_log_loss")
        scores: np.ndarray = model.fit(self.train, targets).decision_function(self.test)
        return np.stack([np.zeros(len(scores)), scores], axis=1) if scores.ndim == 1 else scores


def _texts(train: RawInputs, test: RawInputs) -> _Terms:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_union

    terms = {"sublinear_tf": True, "max_features": _MAX_TERMS}
    seen = make_union(
        TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\w+|[^\w\s]", **terms),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), **terms),
    )
    longest = _longest(train)
    rows = seen.fit_transform([text[:longest] for text in train])
    return _Terms(rows.tocsr(), seen.transform([text[:longest] for text in test]).tocsr())


def _longest(texts: RawInputs) -> int | None:
    """Return how many characters of each text are read; None where all of them are."""
    if sum(map(len, texts)) <= _MAX_CHARACTERS:
        return None
    return max(1, _MAX_CHARACTERS // len(texts))


def _taught(targets: np.ndarray) -> np.ndarray:
    """Return targets that a model can learn from: more than one label, or any number of labels of each."""
    if not teachable(targets):
        raise DatasetError("a baseline tells labels apart: it needs training items of at least two labels")
    return targets


def _logits_of(fit: _Fit, targets: np.ndarray, labels: int, count: int) -> np.ndarray:
    """Fit a model to the labels that are there, and return its logits on all, float32 [N, labels]."""
    if targets.ndim == 1:
        there, numbers = np.unique(targets, return_inverse=True)
        scores = fit(numbers.astype(np.int64), len(there))
        # A label without training examples is never predicted.
        logits = np.full((count, labels), scores.min(axis=1, keepdims=True) + _IMPOSSIBLE, np.float32)
        logits[:, there] = scores
        return logits
    columns = [_either(fit, targets[:, at].astype(np.int64), count) for at in range(labels)]
    return np.stack(columns, axis=1).astype(np.float32)


def _either(fit: _Fit, has: np.ndarray, count: int) -> np.ndarray:
    """Return the logit of having one label or not, float64 [N]."""
    if len(np.unique(has)) < 2:
        return np.full(count, -_IMPOSSIBLE if len(has) and has[0] else _IMPOSSIBLE)
    scores = fit(has, 2)
    difference: np.ndarray = scores[:, 1] - scores[:, 0]
    return difference
