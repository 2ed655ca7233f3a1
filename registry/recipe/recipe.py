"""What every recipe offers: the way from one raw item to the rows of a batch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeAlias

import numpy as np

from registry.digests import Digest, canonical_json
from registry.errors import UndecodableInput
from registry.signature import TensorSpec

Raw: TypeAlias = bytes | str | tuple[str, str]
"""One raw item: a picture's file as bytes, a text, or a pair of texts."""

Prepared: TypeAlias = Mapping[str, np.ndarray]
"""One prepared item: for each field of a recipe an array without the batch dimension."""

_PAIR = b"pair\n"


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
    def prepare(self, item: Raw) -> Prepared:
        """Prepare one raw item: for each field an array without the batch dimension.

        Raises:
            InvalidInput: the item cannot be prepared.
        """

    @abstractmethod
    def collate(self, rows: Sequence[Prepared]) -> dict[str, np.ndarray]:
        """Stack one or more prepared items into a batch, padded where their lengths differ."""

    @abstractmethod
    def blanks(self) -> tuple[Prepared, ...]:
        """Prepared items that mean nothing, of the shapes to warm a program up with, the smallest first."""

    @property
    def digest(self) -> Digest:
        """The digest of the canonical JSON form."""
        return Digest.of(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the canonical JSON form: what the store keeps."""
        return canonical_json(self.to_json())


def content(raw: Raw) -> bytes:
    """Return the bytes that stand for a raw item: what the digests of items are taken over.

    A file's bytes are themselves, a text is its UTF-8, and a pair is ``pair``, a line feed and the
    canonical JSON list of both.

    Raises:
        UndecodableInput: a text holds a lone surrogate, which UTF-8 has no bytes for.
    """
    if isinstance(raw, bytes):
        return raw
    try:
        return raw.encode() if isinstance(raw, str) else _PAIR + canonical_json(list(raw))
    except UnicodeEncodeError as error:
        raise UndecodableInput(
            f"expected a text of whole Unicode characters, got a lone surrogate at character {error.start}"
        ) from error
