"""The data of a report, read from the registry and checked."""

from dataclasses import dataclass

from adapters.evaluation import Evidence
from registry.errors import InvalidValue
from registry.manifest import Head, Manifest
from registry.predictions import Predictions
from registry.registry import Registry
from registry.versions import Version


@dataclass(frozen=True, slots=True)
class Material:
    """A version and its data.

    Attributes:
        version: the version.
        manifest: its manifest.
        predictions: its predictions on the test set; None without a head or a test set.
        evidence: further data for reports; None for older versions.
    """

    version: Version
    manifest: Manifest
    predictions: Predictions | None
    evidence: Evidence | None

    def __post_init__(self) -> None:
        if self.predictions is not None and (
            self.head is None or self.predictions.logits.shape[1] != len(self.head.labels)
        ):
            raise InvalidValue(f"{self.version.ref}: its predictions do not fit the labels of its head")

    @classmethod
    def gather(cls, registry: Registry, ref: str) -> "Material":
        """Read the data of a version.

        Raises:
            NotFound: there is no such version.
            AmbiguousRef: several versions match the ref.
            IntegrityError: bytes are missing or damaged.
            InvalidValue: stored bytes do not match the manifest.
        """
        version = registry.resolve(ref)
        manifest = registry.manifest(version)
        predictions = evidence = None
        if manifest.predictions is not None:
            predictions = Predictions.parse(registry.blob(manifest.predictions))
        if manifest.evidence is not None:
            evidence = Evidence.parse(registry.blob(manifest.evidence))
        return cls(version, manifest, predictions, evidence)

    @property
    def head(self) -> Head | None:
        """The head of the predictions: the first."""
        return self.manifest.heads[0] if self.manifest.heads else None

    @property
    def labels(self) -> tuple[str, ...]:
        """The head's labels; empty without a head."""
        return self.head.labels if self.head is not None else ()
