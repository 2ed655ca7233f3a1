"""The interface of all recipes: from one raw input to a batch."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeAlias

import numpy as np

from registry.digests import Digest, canonical_json
from registry.errors import UndecodableInput
from registry.signature import TensorSpec

Raw: TypeAlias = bytes | str | tuple[str, str]
"""One raw input: a picture's file as bytes, a text, or a pair of texts."""

Prepared: TypeAlias = Mapping[str, np.ndarray]
"""One prepared input: an array without the batch dimension for each field of a recipe."""

_PAIR = b"pair\n"


class Recipe(ABC):
    """Preprocessing as data: everything between raw input and the first tensor.

    Training, parity, evaluation and serving all use it. A recipe is immutable, and its digest is part of the
    version.
    """

    modality: ClassVar[str]

    @property
    @abstractmethod
    def fields(self) -> tuple[TensorSpec, ...]:
        """The tensors of a batch, with first dimension ``batch``."""

    @abstractmethod
    def to_json(self) -> dict[str, object]:
        """Return the recipe as plain JSON values; ``registry.recipe.parse`` reads it back."""

    @abstractmethod
    def prepare(self, item: Raw) -> Prepared:
        """Prepare one raw input: an array without the batch dimension for each field.

        Raises:
            InvalidInput: the input cannot be prepared.
        """

    @abstractmethod
    def collate(self, rows: Sequence[Prepared]) -> dict[str, np.ndarray]:
        """Stack one or more prepared inputs into a batch, padded if their lengths differ."""

    @abstractmethod
    def blanks(self) -> tuple[Prepared, ...]:
        """Dummy inputs with the shapes for warming up a program, smallest first."""

    @property
    def digest(self) -> Digest:
        """The digest of the canonical JSON form."""
        return Digest.of(self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the canonical JSON form, which is stored."""
        return canonical_json(self.to_json())


def content(raw: Raw) -> bytes:
    """Return the bytes of a raw input from which its digest is computed.

    For a file these are its bytes, for a text its UTF-8. For a pair they are ``pair``, a line feed and the
    canonical JSON list of both texts.

    Raises:
        UndecodableInput: a text contains a lone surrogate, which UTF-8 cannot encode.
    """
    if isinstance(raw, bytes):
        return raw
    try:
        return raw.encode() if isinstance(raw, str) else _PAIR + canonical_json(list(raw))
    except UnicodeEncodeError as error:
        raise UndecodableInput(
            f"expected a text of whole Unicode characters, got a lone surrogate at character {error.start}"
        ) from error
