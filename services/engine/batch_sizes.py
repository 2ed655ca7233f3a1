"""Sizes of batches: powers of two, so that sessions see few shapes.

Arbitrary shapes make memory arenas grow without end on a GPU, and rule out captured graphs
(microsoft/onnxruntime#14474). On a CPU rows that nobody asked for cost as much as others, so there
a batch is taken in pieces of these sizes; on a GPU it is filled up.
"""

from collections.abc import Iterator

import numpy as np

LARGEST = 64
SIZES = (1, 2, 4, 8, 16, 32, LARGEST)

_WORTHWHILE = 8
"""One row of padding is cheaper than another run from this size on: at most an eighth is wasted."""


def floor(rows: int) -> int:
    """Return the largest size that some rows, 1 or more, fill."""
    return min(LARGEST, 1 << (rows.bit_length() - 1))


def ceiling(rows: int) -> int:
    """Return the smallest size that holds some rows, 1 to ``LARGEST``."""
    return 1 << (rows - 1).bit_length()


def cover(rows: int, *, fill: bool) -> Iterator[tuple[int, int, int]]:
    """Divide rows into runs.

    Args:
        rows: how many, 1 or more.
        fill: fill a run up with rows that nobody asked for rather than run twice.

    Yields:
        Where each run starts, where it stops, and its size, at least as large.
    """
    start = 0
    while start < rows:
        left = min(rows - start, LARGEST)
        size = ceiling(left)
        if not fill and size - left > size // _WORTHWHILE:
            size = floor(left)
        stop = start + min(size, left)
        yield start, stop, size
        start = stop


def whole(rows: int) -> bool:
    """Tell whether some rows are one of the sizes as they are."""
    return 0 < rows <= LARGEST and not rows & (rows - 1)


def padded(array: np.ndarray, size: int) -> np.ndarray:
    """Return the rows, and its last one again until there are ``size``."""
    lacking = size - len(array)
    return array if not lacking else np.concatenate([array, np.repeat(array[-1:], lacking, axis=0)])
