"""A registered version as the catalog knows it; its contents are in its manifest."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from registry import instants
from registry.digests import Digest
from registry.manifest import Json
from registry.names import Ref, Transfer


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version.

    Attributes:
        event: id of the event that registered it; later versions have higher ones.
        digest: its identity: the sha256 of its manifest.
        transfer: source task and target task.
        number: its number within the transfer, from 1.
        technique: name of the technique.
        kind: ``classification``, ``multilabel`` or ``embedding``.
        stages: its stages, sorted; otherwise only ``candidate`` or ``retired``.
        metrics: metrics on the test set.
        space_id: the embedding space of its features, or None.
        parent: digest of the registered version that it was adapted from, or None.
        created_at: when it was registered, in UTC.
    """

    event: int
    digest: Digest
    transfer: Transfer
    number: int
    technique: str
    kind: str
    stages: tuple[str, ...]
    metrics: Mapping[str, Json]
    space_id: Digest | None
    parent: Digest | None
    created_at: datetime

    @property
    def ref(self) -> Ref:
        """Its full name, ``source/target@number``."""
        return Ref.of(self.transfer, self.number)

    @property
    def source(self) -> str:
        """The source task."""
        return self.transfer.source

    @property
    def target(self) -> str:
        """The target task."""
        return self.transfer.target

    def to_json(self) -> dict[str, object]:
        """Return the JSON form for the command line and other programs."""
        return {
            "ref": str(self.ref),
            "digest": self.digest,
            "source": self.source,
            "target": self.target,
            "version": self.number,
            "technique": self.technique,
            "stages": list(self.stages),
            "metrics": dict(self.metrics),
            "space_id": self.space_id,
            "created_at": instants.to_text(self.created_at),
        }


@dataclass(frozen=True, slots=True)
class Query:
    """Conditions on versions; None matches everything. Deleted versions never match.

    Attributes:
        source: the source task.
        target: the target task.
        stage: a stage, ``candidate`` and ``retired`` included.
        technique: the technique's name.
        number: the number within the transfer.
        digest: the beginning of the version's digest, ``sha256:`` included.
        parent: the digest of the version that they were adapted from.
    """

    source: str | None = None
    target: str | None = None
    stage: str | None = None
    technique: str | None = None
    number: int | None = None
    digest: str | None = None
    parent: Digest | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of versions, newest first, and the cursor of the next page, or None."""

    versions: tuple[Version, ...]
    next: str | None
