"""What every recipe offers: the way from one raw item to the rows of a batch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from registry.digests import Digest, canonical_json
from registry.signature import TensorSpec


class Recipe(ABC):
    """Everything between raw input and the first tensor, as data.

    Training, parity, evaluation and serving all prepare items here and nowhere else.
    A recipe is immutable, and its digest is part of the version that it belongs to.
    """

    modality: ClassVar[str]

    @property
    @abstractmethod
    def fields(self) -> tuple[TensorSpec, ...]:
        """The tensors that a batch of prepared items holds, first dimension ``batch``."""

    @abstractmethod
    def to_json(self) -> dict[str, object]:
        """Return the recipe as plain JSON values; ``registry.recipe.parse`` reads it back."""

    @abstractmethod
    def prepare(self, item: bytes | str) -> Mapping[str, np.ndarray]:
        """Prepare one raw item: for each field an array without the batch dimension.

        Raises:
            InvalidInput: the item cannot be prepared.
        """

    @abstractmethod
    def collate(self, rows: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Stack one or more prepared items into a batch."""

    @property
    def digest(self) -> Digest:
        """The digest of the canonical JSON form."""
        return Digest.of(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the canonical JSON form: what the store keeps."""
        return canonical_json(self.to_json())
