"""The inputs of a request."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from registry.errors import InputTooLarge, WrongModality
from registry.recipe import ImageRecipe, Raw, TextRecipe, content
from services.errors import MalformedRequest

IMAGE = ImageRecipe.modality
TEXT = TextRecipe.modality


@dataclass(frozen=True, slots=True)
class Inputs:
    """The inputs of a request: raw inputs that a recipe prepares, or a prepared array.

    Attributes:
        modality: ``image`` or ``text``.
        items: raw inputs; empty if there is an array.
        array: uint8 [rows, height, width, channels], or None.
    """

    modality: str
    items: Sequence[Raw] = ()
    array: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.items) if self.array is None else len(self.array)

    @property
    def size(self) -> int:
        """Bytes of the inputs; for texts, characters."""
        if self.array is not None:
            return self.array.nbytes
        return sum(sum(map(len, item)) if isinstance(item, tuple) else len(item) for item in self.items)

    def contents(self) -> Sequence[bytes]:
        """Return bytes that identify each input.

        Raises:
            UndecodableInput: a text holds a lone surrogate.
        """
        if self.array is None:
            return [content(item) for item in self.items]
        shape = repr(self.array.shape[1:]).encode()
        return [shape + row.tobytes() for row in self.array]

    def only(self, places: Sequence[int]) -> "Inputs":
        """Return some of the inputs."""
        if self.array is None:
            return Inputs(self.modality, [self.items[place] for place in places])
        return Inputs(self.modality, array=self.array[list(places)])

    def require(self, modality: str, max_rows: int) -> None:
        """Check the inputs against the model and the limit.

        Raises:
            WrongModality: the model takes the other kind.
            InputTooLarge: there are too many.
            MalformedRequest: there are none.
        """
        if self.modality != modality:
            raise WrongModality(f"this model takes {modality} inputs, got {self.modality}")
        rows = len(self)
        if rows > max_rows:
            raise InputTooLarge(f"a request holds at most {max_rows} inputs, got {rows}")
        if not rows:
            raise MalformedRequest("a request holds one input or more, got none")
