"""Batch sizes: powers of two, so that sessions see few shapes.

Arbitrary shapes make memory arenas on a GPU grow without limit, and rule out CUDA graphs
(microsoft/onnxruntime#14474). On a GPU a batch is padded to one of these sizes. On a CPU rows of padding cost as much
as real ones, so a batch is split into runs of these sizes.
"""

from collections.abc import Iterator

import numpy as np

LARGEST = 64
SIZES = (1, 2, 4, 8, 16, 32, LARGEST)

_WORTHWHILE = 8
"""From this size on, one row of padding is cheaper than another run: at most an eighth is wasted."""


def floor(rows: int) -> int:
    """Return the largest size that a number of rows, 1 or more, fills."""
    return min(LARGEST, 1 << (rows.bit_length() - 1))


def ceiling(rows: int) -> int:
    """Return the smallest size that holds a number of rows, 1 to ``LARGEST``."""
    return 1 << (rows - 1).bit_length()


def cover(rows: int, *, fill: bool) -> Iterator[tuple[int, int, int]]:
    """Divide rows into runs.

    Args:
        rows: number of rows, 1 or more.
        fill: pad a run rather than run twice.

    Yields:
        The first row of each run, the row after its last, and its size, which is at least as large.
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
    """Return whether a number of rows is one of the sizes."""
    return 0 < rows <= LARGEST and not rows & (rows - 1)


def padded(array: np.ndarray, size: int) -> np.ndarray:
    """Return the rows, padded to ``size`` by repeating the last one."""
    lacking = size - len(array)
    return array if not lacking else np.concatenate([array, np.repeat(array[-1:], lacking, axis=0)])
