"""What features depend on, apart from the items."""

from dataclasses import asdict, dataclass

from registry.digests import Digest, canonical_json


@dataclass(frozen=True, slots=True)
class FeatureKey:
    """What features depend on, apart from the items.

    Attributes:
        weights: weights digest of every stage that ran, from the input on.
        recipe: digest of the recipe that prepared the rows.
        provider: what computed them, ``torch-2.15.0-cpu``, ``onnxruntime-1.31-CPUExecutionProvider``:
            equal weights differ in the last bits from one to another.
        view: ``carried``, the tensor as the last of the stages leaves it; ``pooled``, averaged over its
            places or tokens.
    """

    weights: tuple[Digest, ...]
    recipe: Digest
    provider: str
    view: str = "carried"

    @property
    def json(self) -> bytes:
        """The key's canonical JSON."""
        return canonical_json(asdict(self))

    @property
    def digest(self) -> Digest:
        """Digest of the key's canonical JSON."""
        return Digest.of(self.json)
