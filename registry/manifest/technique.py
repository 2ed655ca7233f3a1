"""The technique with which a source was adapted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, TypeAlias

from registry.manifest.entry import Entry

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


@dataclass(frozen=True, slots=True)
class TechniqueRecord:
    """The technique with which the source was adapted.

    Attributes:
        name: ``as-is``, ``features``, ``frozen``, ``partial``, ``full``, ``lp-ft``, ``scratch`` …
        depth: number of retrained segments below the head, if the technique takes a depth.
        config: every hyper-parameter used, as plain JSON values.
    """

    name: str
    depth: int | None
    config: Mapping[str, Json]

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"name": self.name, "depth": self.depth, "config": dict(self.config)}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read the JSON form; raises ``InvalidManifest``."""
        entry = Entry("technique", value)
        technique = cls(entry.take("name", str), entry.optional("depth", int), entry.take("config", dict))
        entry.close()
        return technique
