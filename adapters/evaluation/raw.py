"""Raw inputs as features for a linear model without any network, for the first baseline."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from adapters.datasets.dataset import Dataset
from registry.errors import WrongModality
from registry.recipe import Raw

SIDE = 16
"""Pictures are averaged over areas down to at most so many rows and columns."""

_CHUNK = 64

RawInputs: TypeAlias = np.ndarray | Sequence[str]
"""float32 [N, D] of pictures, or N texts."""


def raw_inputs(dataset: Dataset, index: np.ndarray) -> RawInputs:
    """Return raw inputs of some items.

    Args:
        dataset: of pictures or texts.
        index: positions in its items, int64 [N].

    Returns:
        of pictures float32 [N, D], 0 to 255: the recipe's pixels, averaged over areas down to at most 16 x 16,
        flattened; of texts the texts, the two of a pair on lines of their own.
    """
    if has_pixels(dataset):
        chunks = [index[start : start + _CHUNK] for start in range(0, len(index), _CHUNK)]
        rows = [_reduced(dataset.pixels[chunk]) for chunk in chunks]
        return np.concatenate(rows) if rows else np.zeros((0, 1), np.float32)
    return [text(dataset.items[at].read()) for at in index]


def has_pixels(dataset: Dataset) -> bool:
    """Tell whether a dataset is of pictures."""
    return any(spec.name == "pixels" for spec in dataset.recipe.fields)


def text(raw: Raw) -> str:
    """Return a text as it is, and the two of a pair on lines of their own."""
    if isinstance(raw, bytes):
        raise WrongModality("expected a text, got a picture's bytes")
    return raw if isinstance(raw, str) else "\n".join(raw)


def _reduced(pixels: np.ndarray) -> np.ndarray:
    """Return pictures, uint8 [N, H, W, C], averaged over areas and flattened, float32 [N, D]."""
    rows, columns = (_areas(size, min(size, SIDE)) for size in pixels.shape[1:3])
    across = np.tensordot(pixels.astype(np.float32), columns, axes=(2, 1))
    reduced = np.tensordot(across, rows, axes=(1, 1))
    return np.ascontiguousarray(reduced.reshape(len(pixels), -1))


def _areas(size: int, parts: int) -> np.ndarray:
    """Return the share of each of some pixels in each of some equal parts of them, float32 [parts, size]."""
    edges = np.arange(parts + 1) * size / parts
    starts = np.arange(size)
    overlap = np.minimum(edges[1:, None], starts + 1) - np.maximum(edges[:-1, None], starts)
    shares: np.ndarray = (np.maximum(overlap, 0) * parts / size).astype(np.float32)
    return shares
