"""One example of a dataset."""

from dataclasses import dataclass
from pathlib import Path

from registry.digests import Digest
from registry.errors import DatasetError

MAX_ITEM_BYTES = 64 << 20
"""Size of one item's file, 64 MiB: twice what the service accepts in a request."""


@dataclass(frozen=True, slots=True)
class Item:
    """A raw input, known by its content.

    Attributes:
        digest: of the raw content bytes.
        label: what it shows, or None in unlabelled data.
        group: items of one group (a patient, a writer) stay in one part; None stands alone.
        origin: where it came from, for messages: a path, or a file and its row.
        content: the bytes themselves, or the file that holds them.
    """

    digest: Digest
    label: str | None
    group: str | None
    origin: str
    content: bytes | Path

    def read(self) -> bytes:
        """Return the raw content, as it was when the dataset was loaded.

        Raises:
            DatasetError: the file has gone, or holds other bytes by now.
        """
        if isinstance(self.content, bytes):
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
