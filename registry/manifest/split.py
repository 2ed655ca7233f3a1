"""The splits of a version's dataset, as digests."""

from dataclasses import dataclass
from typing import Self

from registry.digests import Digest
from registry.manifest.entry import Entry


@dataclass(frozen=True, slots=True)
class Split:
    """One split of the dataset: training, validation or test.

    Attributes:
        count: number of examples.
        items: digest of the stored list of its example digests (sorted, one per line).
    """

    count: int
    items: Digest

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"count": self.count, "items": self.items}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read the JSON form; raises ``InvalidManifest``."""
        entry = Entry("part", value)
        part = cls(entry.take("count", int), Digest(entry.take("items", str)))
        entry.close()
        return part
