"""A proposed technique and its settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from registry.manifest import Json


@dataclass(frozen=True, slots=True)
class TechniqueProposal:
    """A proposed technique with its settings.

    Attributes:
        technique: its name.
        settings: hyper-parameters that differ from the technique's defaults.
        retrained: number of stages with layers that are retrained; 0 if a known trunk is completely shared.
    """

    technique: str
    settings: Mapping[str, Json] = field(default_factory=dict)
    retrained: int = 0

    @property
    def depth(self) -> int | None:
        """How many stages are retrained, where the technique asks for it."""
        depth = self.settings.get("depth")
        return depth if isinstance(depth, int) else None

    def __str__(self) -> str:
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        return f"{self.technique} ({settings})" if settings else self.technique
