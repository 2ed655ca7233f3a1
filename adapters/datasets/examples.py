"""Bundled datasets, written ``example:NAME``."""

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from adapters.datasets.listing import DatasetProvider, ListedRow, Listing
from adapters.datasets.table import IMAGE
from registry.errors import DatasetError, WrongModality

PREFIX = "example:"


@dataclass(frozen=True, slots=True)
class Example(DatasetProvider):
    """A bundled dataset.

    Attributes:
        name: the name after the colon.
        modality: the required modality.
    """

    name: str
    modality: str = IMAGE

    def listing(self, labelled: bool) -> Listing:
        """List the dataset's items.

        Raises:
            DatasetError: there is no such dataset.
            WrongModality: its items are of another kind.
        """
        if self.name not in EXAMPLES:
            raise DatasetError(
                f"expected one of {', '.join(PREFIX + name for name in EXAMPLES)}, got {PREFIX}{self.name}"
            )
        if self.modality != IMAGE:
            raise WrongModality(
                f"{PREFIX}{self.name} holds pictures, and the source takes items of the modality {self.modality}; "
                "take a source of pictures, or other data"
            )
        rows = EXAMPLES[self.name]()
        if labelled:
            return Listing(rows)
        return Listing(tuple(ListedRow(row.content, None, row.group, row.origin) for row in rows))


def digits() -> tuple[ListedRow, ...]:
    """Return scikit-learn's handwriting: 1797 grey pictures of 8 x 8 pixels, ten digits.

    43 people wrote them (Optical Recognition of Handwritten Digits, UCI, Alpaydin and Kaynak, 1998;
    CC BY 4.0). Ink is 0 to 16 there; here it is black on white, as on paper.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    ink = np.asarray(data.images, np.float64)
    pictures = np.round(255 - ink * 255 / 16).astype(np.uint8)
    return tuple(
        ListedRow(grey_png(picture), str(label), None, f"{PREFIX}digits, row {number}")
        for number, (picture, label) in enumerate(zip(pictures, data.target, strict=True), 1)
    )


def grey_png(picture: np.ndarray) -> bytes:
    """Encode a picture, uint8 [H, W], as PNG with reproducible bytes.

    It is not compressed, because compressed bytes differ between zlib versions, and an example is identified
    by the digest of its bytes.
    """
    height, width = picture.shape
    lines = b"".join(b"\0" + row.tobytes() for row in picture)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, level=0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


EXAMPLES: Mapping[str, Callable[[], tuple[ListedRow, ...]]] = {"digits": digits}
