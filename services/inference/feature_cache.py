"""The feature cache: features of earlier inputs, in memory.

A feature vector depends on the input's bytes, the recipe, the segments that ran and the provider, but not on the
head. So a vector is valid for every target that shares these, for the feature endpoint, and for the head of the next
version.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from services.deployment.loading import LoadedVersion

Key: TypeAlias = tuple[str, str, str, bytes]
"""Wire of the features (a digest of every segment up to it), recipe, provider, and the input's sha256."""

_ENTRY_BYTES = 600
"""Bytes of a key, an array object and a dictionary entry, without the vector itself (measured)."""


class FeatureCache:
    """An LRU cache of feature vectors, limited by bytes.

    Belongs to one event loop. It returns vectors bit for bit as they were stored.

    Args:
        max_bytes: bytes that it may hold; 0 disables it.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._rows: OrderedDict[Key, np.ndarray] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: Key) -> np.ndarray | None:
        """Return a vector, float32 [D], or None."""
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
        return row

    def put(self, key: Key, row: np.ndarray) -> None:
        """Store a copy of a vector."""
        size = row.nbytes + _ENTRY_BYTES
        if key in self._rows or size > self._max_bytes:
            return
        self._rows[key] = row.copy()
        self.bytes += size
        while self.bytes > self._max_bytes:
            _, gone = self._rows.popitem(last=False)
            self.bytes -= gone.nbytes + _ENTRY_BYTES


def keys_of(loaded: LoadedVersion, wire: str, contents: Sequence[bytes]) -> list[Key]:
    """Return the keys of the features of some inputs.

    Args:
        loaded: the version that answers.
        wire: the wire of its route that carries the features.
        contents: the bytes of each input.
    """
    provider, recipe = loaded.providers[0], loaded.manifest.recipe
    return [(wire, recipe, provider, hashlib.sha256(each).digest()) for each in contents]
