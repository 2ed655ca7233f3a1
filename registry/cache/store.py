"""The contract of every feature store."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from registry.cache.key import FeatureKey
from registry.digests import Digest


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a store has of some items.

    Attributes:
        mask: whether each item has a row, bool [N].
        rows: the rows of those that have one, in their order, float32 [sum(mask), ...]. May be a
            read-only view of what the store holds: copy before writing. Its further dimensions
            mean nothing where there is no row.
    """

    mask: np.ndarray
    rows: np.ndarray


class FeatureStore(ABC):
    """Where features already computed are kept, found again by item content.

    A store is a cache: it may forget anything at any time, and gives the rows that were put or none.
    ``find`` is its only way of reading: callers compute the items that its mask leaves out, and ``put``
    those.
    """

    @abstractmethod
    def find(self, key: FeatureKey, items: Sequence[Digest]) -> Found:
        """Return the rows that there are, for items in any order, repeated ones repeatedly."""

    @abstractmethod
    def put(self, key: FeatureKey, items: Sequence[Digest], rows: np.ndarray) -> None:
        """Keep rows, float32 [N, ...], one for each item; items that have one already keep that.

        Where all rows of a key would take more than the store's bound, the first that fit are kept.

        Raises:
            InvalidValue: rows of another dtype or number, or of another shape than the key's others.
        """
