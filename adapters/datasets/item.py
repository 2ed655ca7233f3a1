"""One example of a dataset."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from registry.digests import Digest
from registry.errors import DatasetError
from registry.recipe import Raw

MAX_ITEM_BYTES = 64 << 20
"""Size of one item's file, 64 MiB: twice what the service accepts in a request."""


Label: TypeAlias = str | tuple[str, ...]
"""A label; or, where an item may have any number of them, those that it has, sorted."""


@dataclass(frozen=True, slots=True)
class Item:
    """A raw input, known by its content.

    Attributes:
        digest: of the raw content, see :func:`registry.recipe.content`.
        label: what it is, several of them sorted where an item may have any number, or None in
            unlabelled data.
        group: items of one group (a patient, a writer) stay in one part; None stands alone.
        origin: where it came from, for messages: a path, or a file and its row.
        content: a picture's bytes or the file that holds them; a text; a pair of texts.
    """

    digest: Digest
    label: Label | None
    group: str | None
    origin: str
    content: Raw | Path

    @property
    def labels(self) -> tuple[str, ...]:
        """Its labels, none, one or several."""
        if self.label is None:
            return ()
        return self.label if isinstance(self.label, tuple) else (self.label,)

    @property
    def unit(self) -> Digest:
        """Digest of its group; its own where it stands alone: examples of one unit are not independent."""
        return self.digest if self.group is None else Digest.of(f"group:{self.group}".encode())

    def read(self) -> Raw:
        """Return the raw content, as it was when the dataset was loaded.

        Raises:
            DatasetError: the file has gone, or holds other bytes by now.
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
