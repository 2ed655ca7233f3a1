"""Cache keys: everything that features depend on, apart from the examples."""

from dataclasses import asdict, dataclass

from registry.digests import Digest, canonical_json


@dataclass(frozen=True, slots=True)
class FeatureKey:
    """Everything that features depend on, apart from the examples.

    Attributes:
        weights: weights digest of every stage that ran, starting at the input.
        recipe: digest of the recipe that prepared the rows.
        provider: the runtime that computed them, such as ``torch-2.15.0-cpu`` or
            ``onnxruntime-1.31-CPUExecutionProvider``. Results of equal weights differ in the last bits
            between runtimes.
        view: ``carried``, the output tensor of the last stage; ``pooled``, its average over positions or
            tokens.
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
