"""The embedding space of a feature vector."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from registry.digests import Digest
from registry.errors import InvalidManifest
from registry.quoting import quoted


@dataclass(frozen=True, slots=True)
class Space:
    """The embedding space: only feature vectors of equal spaces can be compared.

    Attributes:
        weights: weight digests of every segment up to ``features``, in order, including the tail. They cover
            architecture, input size, parameters and buffers, but not ONNX bytes, so a new export with a newer
            exporter stays in the same space.
        recipe: digest of the recipe.
        pooling: how a feature map is reduced to a vector (``avg``, ``mean``, ``cls``, ``penultimate`` …).
        normalisation: ``none`` or ``l2``.
        dimension: length of a vector.
        precision: ``fp32`` …
    """

    weights: tuple[Digest, ...]
    recipe: Digest
    pooling: str
    normalisation: str
    dimension: int
    precision: str = "fp32"

    @property
    def id(self) -> Digest:
        """The space's id: the digest of all of the above."""
        return Digest.of_json(self.to_json())

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Self:
        """Read the JSON form.

        Raises:
            InvalidManifest: a key is missing, unknown or of another type.
        """
        match value:
            case {
                "weights": list(weights),
                "recipe": str(recipe),
                "pooling": str(pooling),
                "normalisation": str(normalisation),
                "dimension": int(dimension),
                "precision": str(precision),
                **rest,
            } if not rest and all(isinstance(digest, str) for digest in weights):
                digests = tuple(Digest(digest) for digest in weights)
                return cls(digests, Digest(recipe), pooling, normalisation, dimension, precision)
        raise InvalidManifest(f"a space has exactly its six fields, got {quoted(value, 300)}")


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
