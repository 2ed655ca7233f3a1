"""Checks that reject pictures with excessive decoding costs before they are decoded."""

from registry.errors import InputTooLarge, UndecodableInput

MAX_LENGTH = 65_535
"""Most pixels of a picture's longer side: JPEG's limit. A row of 64 million pixels takes seconds to scale."""

MAX_SCANS = 100
"""Most scans of a JPEG file; each is decoded over the whole picture. Encoders write about ten."""

_JPEG = b"\xff\xd8"
_SCAN = b"\xff\xda"


def check_effort(data: bytes, width: int, height: int) -> None:
    """Check a picture's proportions, and of a JPEG file the number of scans.

    Args:
        data: the file, without its metadata.
        width: width in its header.
        height: height in its header.

    Raises:
        InputTooLarge: a side is too long.
        UndecodableInput: there are too many scans.
    """
    if max(width, height) > MAX_LENGTH:
        raise InputTooLarge(
            f"a side of a picture may have {MAX_LENGTH:,} pixels, this one is {width} x {height}"
        )
    # In entropy-coded data other bytes follow 0xFF (ITU-T T.81, B.1.1.5), so each of these begins a scan.
    if data.startswith(_JPEG) and (scans := data.count(_SCAN)) > MAX_SCANS:
        raise UndecodableInput(
            f"expected a JPEG picture of at most {MAX_SCANS} scans, got {scans:,}; save it anew"
        )
