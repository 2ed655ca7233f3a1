"""Folders of handwritten digits, a folder for each label, to adapt to."""

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

from adapters.datasets.examples import digits
from adapters.datasets.listing import ListedRow


def write(folder: Path, count: int, seed: int, label: Callable[[str], str] = str) -> Path:
    """Write some of scikit-learn's digits as PNG files of 8 x 8 pixels; return the folder.

    Args:
        folder: is made.
        count: how many, at most 1797.
        seed: which ones.
        label: from a digit, ``"0"`` to ``"9"``, to the label that it is filed under.
    """
    for number, row in enumerate(random.Random(seed).sample(_rows(), count)):
        assert isinstance(row.content, bytes) and isinstance(row.label, str)
        place = folder / label(row.label)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:04d}.png").write_bytes(row.content)
    return folder


@cache
def _rows() -> tuple[ListedRow, ...]:
    return digits()
