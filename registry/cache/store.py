"""The interface of a feature store."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from registry.cache.key import FeatureKey
from registry.digests import Digest


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The rows that a store has for some examples.

    Attributes:
        mask: whether each example has a row, bool [N].
        rows: the rows of the examples that have one, in order, float32 [sum(mask), ...]. May be a read-only
            view of the store's data: copy before writing. Without any row, the further dimensions are
            meaningless.
    """

    mask: np.ndarray
    rows: np.ndarray


class FeatureStore(ABC):
    """Computed features, found by example content.

    A store is a cache. It may drop any row at any time, and returns a row unchanged or not at all. ``find``
    is the only way to read: callers compute the examples that its mask leaves out, and ``put`` them.
    """

    @abstractmethod
    def find(self, key: FeatureKey, items: Sequence[Digest]) -> Found:
        """Return the stored rows for examples in any order; a repeated example gets its row repeated."""

    @abstractmethod
    def put(self, key: FeatureKey, items: Sequence[Digest], rows: np.ndarray) -> None:
        """Store rows, float32 [N, ...], one per example; existing rows are kept.

        If the rows of a key exceed the store's bound, the first ones that fit are kept.

        Raises:
            InvalidValue: the dtype or number of rows is wrong, or their shape differs from the key's other
                rows.
        """
