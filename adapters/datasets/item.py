"""One example of a dataset."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from registry.digests import Digest
from registry.errors import DatasetError
from registry.recipe import Raw

MAX_ITEM_BYTES = 64 << 20
"""Largest file of one example, 64 MiB: twice the size that the service accepts in a request."""


Label: TypeAlias = str | tuple[str, ...]
"""A label; or, for multilabel, the sorted labels of an example."""


@dataclass(frozen=True, slots=True)
class Item:
    """An example, identified by its content.

    Attributes:
        digest: of the raw content, see :func:`registry.recipe.content`.
        label: its label, its sorted labels for multilabel, or None in unlabelled data.
        group: examples of one group (a patient, a writer) stay in one split; None for no group.
        origin: its origin, for messages: a path, or a file and its row.
        content: a picture's bytes or file; a text; a pair of texts.
    """

    digest: Digest
    label: Label | None
    group: str | None
    origin: str
    content: Raw | Path

    @property
    def labels(self) -> tuple[str, ...]:
        """Its labels: none, one or several."""
        if self.label is None:
            return ()
        return self.label if isinstance(self.label, tuple) else (self.label,)

    @property
    def unit(self) -> Digest:
        """Digest of its group, or its own without a group; examples of one unit are not independent."""
        return self.digest if self.group is None else Digest.of(f"group:{self.group}".encode())

    def read(self) -> Raw:
        """Return the raw content, as it was when the dataset was loaded.

        Raises:
            DatasetError: the file is missing or has changed.
        """
        if not isinstance(self.content, Path):
            return self.content
        try:
            data = self.content.read_bytes()
        except OSError as error:
            raise DatasetError(
                f"{self.origin}: expected the file that was listed; {error.strerror}"
            ) from error
        if Digest.of(data) != self.digest:
            raise DatasetError(f"{self.origin}: the file changed after it was listed; load the data again")
        return data
