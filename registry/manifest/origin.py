"""A version's source, and the proof that it was loaded correctly."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from registry.digests import Digest
from registry.manifest.entry import Entry


@dataclass(frozen=True, slots=True)
class SourceVerification:
    """The proof that a source's outputs equal those of its provider's own code.

    Attributes:
        libraries: versions of the provider's libraries.
        probes: number of inputs that were prepared in both ways and compared.
        runs: number of these inputs that were run through both networks; smaller for large networks.
        max_abs_difference: largest absolute difference: of ``tokens`` (ids, masks and types) or ``pixels``
            (grey levels out of 255), ``features`` and, where the source has labels, ``logits``.
        tolerance: the allowed differences, with the same keys.
    """

    libraries: Mapping[str, str]
    probes: int
    runs: int
    max_abs_difference: Mapping[str, float]
    tolerance: Mapping[str, float]

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "libraries": dict(self.libraries),
            "probes": self.probes,
            "runs": self.runs,
            "max_abs_difference": dict(self.max_abs_difference),
            "tolerance": dict(self.tolerance),
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read the JSON form; raises ``InvalidManifest``."""
        entry = Entry("source verification", value)
        verification = cls(
            entry.mapping("libraries", str, "a library's version"),
            entry.take("probes", int),
            entry.take("runs", int),
            entry.mapping("max_abs_difference", float, "a difference"),
            entry.mapping("tolerance", float, "a tolerance"),
        )
        entry.close()
        return verification


@dataclass(frozen=True, slots=True)
class Origin:
    """The version's source.

    Attributes:
        spec: the source's spec, such as ``torchvision:resnet50@IMAGENET1K_V2``.
        architecture: the network's name at its provider.
        weights: digest of the source's parameters and buffers.
        licence: the weights' licence as stated by the provider, or None.
        parent: digest of the registered version if the source is one, else None.
        verification: proof against the provider's own code; None if there is no such code, if the weights are
            random, and in versions older than this field. If it is None the JSON form omits it.
    """

    spec: str
    architecture: str
    weights: Digest
    licence: str | None = None
    parent: Digest | None = None
    verification: SourceVerification | None = None

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "spec": self.spec,
            "architecture": self.architecture,
            "weights": self.weights,
            "licence": self.licence,
            "parent": self.parent,
            **({} if self.verification is None else {"verification": self.verification.to_json()}),
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read the JSON form; raises ``InvalidManifest``."""
        entry = Entry("origin", value)
        parent = entry.optional("parent", str)
        origin = cls(
            entry.take("spec", str),
            entry.take("architecture", str),
            Digest(entry.take("weights", str)),
            entry.optional("licence", str),
            None if parent is None else Digest(parent),
            SourceVerification.from_json(entry.take("verification", dict))
            if entry.holds("verification")
            else None,
        )
        entry.close()
        return origin
