"""Wires: the origins of tensors."""

from dataclasses import dataclass
from typing import Self

from registry.errors import InvalidManifest
from registry.quoting import quoted

RECIPE = "recipe"


@dataclass(frozen=True, slots=True)
class Wire:
    """The origin of a tensor, written ``SEGMENT:OUTPUT`` or ``recipe:FIELD``."""

    segment: str
    port: str

    def __post_init__(self) -> None:
        if not self.segment or not self.port or ":" in self.port:
            raise InvalidManifest(
                f"a wire is SEGMENT:OUTPUT or recipe:FIELD, got {self.segment!r}:{self.port!r}"
            )

    @property
    def from_recipe(self) -> bool:
        """True if the tensor is a field of the recipe."""
        return self.segment == RECIPE

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``SEGMENT:OUTPUT``; ``str`` writes it back.

        Raises:
            InvalidManifest: the text has another form.
        """
        segment, colon, port = text.rpartition(":")
        if not colon:
            raise InvalidManifest(f"a wire is SEGMENT:OUTPUT or recipe:FIELD, got {quoted(text)}")
        return cls(segment, port)

    def __str__(self) -> str:
        return f"{self.segment}:{self.port}"
