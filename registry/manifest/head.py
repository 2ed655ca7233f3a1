"""A named output of the target task."""

from dataclasses import dataclass
from typing import Self

from registry.digests import Digest
from registry.errors import InvalidManifest
from registry.manifest.entry import Entry, of_type
from registry.manifest.wire import Wire

CLASSIFICATION = "classification"
MULTILABEL = "multilabel"
KINDS = (CLASSIFICATION, MULTILABEL)


@dataclass(frozen=True, slots=True)
class Head:
    """A named output of the target task.

    Attributes:
        name: its task; for a version of one task the target.
        kind: ``classification`` (softmax) or ``multilabel`` (sigmoid).
        logits: the wire of float32 [batch, labels].
        labels: the unique labels in the order of the logits.
    """

    name: str
    kind: str
    logits: Wire
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidManifest(
                f"head {self.name!r}: a kind is one of {', '.join(KINDS)}, got {self.kind!r}"
            )
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise InvalidManifest(f"head {self.name!r}: labels are one or more, all different")

    @property
    def labels_digest(self) -> Digest:
        """Digest of the ordered labels: equal only if each index means the same label."""
        return Digest.of_json(list(self.labels))

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"name": self.name, "kind": self.kind, "logits": str(self.logits), "labels": list(self.labels)}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read the JSON form; raises ``InvalidManifest``."""
        entry = Entry("head", value)
        head = cls(
            entry.take("name", str),
            entry.take("kind", str),
            Wire.parse(entry.take("logits", str)),
            tuple(of_type(label, str, "a label") for label in entry.take("labels", list)),
        )
        entry.close()
        return head
