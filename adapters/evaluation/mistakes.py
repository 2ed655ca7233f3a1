"""The most confident wrong predictions, which are worth inspecting first."""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from adapters.datasets.dataset import TEST, Dataset
from adapters.evaluation.evidence import MAX_EXCERPT, MAX_MISTAKES, Mistake
from adapters.evaluation.raw import has_pixels, text
from registry.predictions import Predictions
from registry.statistics import log_softmax, sigmoid

THUMBNAIL_SIDE = 96


def predicted_labels(predictions: Predictions, labels: Sequence[str]) -> list[tuple[str, ...]]:
    """Return each example's predicted labels: the most probable one, or for multilabel those above 0.5."""
    if predictions.multilabel:
        return _several(predictions.logits > 0, labels)
    return [(labels[at],) for at in predictions.logits.argmax(axis=1)]


def truths(predictions: Predictions, labels: Sequence[str]) -> list[tuple[str, ...]]:
    """Return each example's true labels."""
    if predictions.multilabel:
        return _several(predictions.labels > 0, labels)
    return [(labels[at],) for at in predictions.labels]


def confidence(predictions: Predictions) -> np.ndarray:
    """Return each prediction's confidence, float64 [N]; for multilabel that of its least certain decision."""
    if predictions.multilabel:
        scores = sigmoid(predictions.logits)
        least: np.ndarray = np.maximum(scores, 1 - scores).min(axis=1)
        return least
    sure: np.ndarray = np.exp(log_softmax(predictions.logits).max(axis=1))
    return sure


def worst(predictions: Predictions, dataset: Dataset, labels: Sequence[str]) -> tuple[Mistake, ...]:
    """Return the 24 most confident wrong predictions, in order, each with a picture or an excerpt of its text.

    Args:
        predictions: on the dataset's test part.
        dataset: whose items they are of.
        labels: in the order of the logits.
    """
    sure = _wrong_confidence(predictions)
    wrong = np.flatnonzero(~predictions.right())
    chosen = wrong[np.argsort(-sure[wrong], kind="stable")][:MAX_MISTAKES]
    places = {dataset.items[at].digest: int(at) for at in dataset.index(TEST)}
    digests, given, right = (
        predictions.digests,
        predicted_labels(predictions, labels),
        truths(predictions, labels),
    )
    found = []
    for at in chosen:
        place = places[digests[at]]
        picture = thumbnail(dataset.pixels[place]) if has_pixels(dataset) else None
        excerpt = None if picture else text(dataset.items[place].read())[:MAX_EXCERPT]
        found.append(Mistake(digests[at], right[at], given[at], float(sure[at]), picture, excerpt))
    return tuple(found)


def thumbnail(pixels: np.ndarray) -> bytes:
    """Return a picture, uint8 [H, W, 1 or 3], as a PNG of at most 96 x 96."""
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BOX)
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def _wrong_confidence(predictions: Predictions) -> np.ndarray:
    if not predictions.multilabel:
        return confidence(predictions)
    scores = sigmoid(predictions.logits)
    missed = (predictions.logits > 0) != (predictions.labels > 0)
    surest: np.ndarray = np.where(missed, np.maximum(scores, 1 - scores), 0).max(axis=1)
    return surest


def _several(which: np.ndarray, labels: Sequence[str]) -> list[tuple[str, ...]]:
    return [tuple(labels[int(at)] for at in np.flatnonzero(row)) for row in which]
