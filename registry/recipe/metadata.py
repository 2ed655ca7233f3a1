"""Metadata of picture files; only the orientation is used.

Pillow parses metadata when it opens a file. It inflates the text chunks of a PNG and rejects the picture if
one is long. It reads every EXIF tag and raises an exception on a malformed one. So the metadata of JPEG and
PNG files is removed before Pillow opens them, and this module reads the orientation.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image
from PIL.ExifTags import Base

from registry.errors import UndecodableInput

UPRIGHT = 1
"""The EXIF orientation of an upright picture."""

MAX_CHUNKS = 100_000
"""Most chunks of one PNG file. A picture of 64 megapixels has about 24 000 chunks of 8 KiB, libpng's size."""

_JPEG = b"\xff\xd8"
_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')

_SCAN = 0xDA
_STANDALONE = frozenset(range(0xD0, 0xDA))
_APP1 = 0xE1
_JPEG_METADATA = frozenset({*range(0xE1, 0xF0), 0xFE} - {0xEE})
"""Application segments and comments to remove. JFIF (0xE0) and Adobe (0xEE) define the colour coding and stay."""

_PNG_PIXELS = frozenset({b"tRNS", b"acTL", b"fcTL", b"fdAT"})
"""Ancillary chunks that are kept: transparency, and the frames of an animation."""

_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
"""TIFF's integer types (TIFF 6.0, section 2), as format characters of ``struct``."""

_MAX_ENTRIES = 4096
_MAX_PROFILE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Bare:
    """A picture's file without its metadata.

    Attributes:
        data: the file; formats other than JPEG and PNG are unchanged.
        orientation: EXIF orientation, 1 to 8; None if Pillow has to read it.
    """

    data: bytes
    orientation: int | None


def bare(data: bytes) -> Bare:
    """Remove the metadata of a JPEG or PNG file; other files are unchanged.

    Raises:
        UndecodableInput: a PNG file has over 100 000 chunks.
    """
    if data.startswith(_JPEG):
        return _bare_jpeg(data)
    if data.startswith(_PNG):
        return _bare_png(data)
    return Bare(data, None)


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened picture, 1 to 8, and prevent Pillow from reading it again."""
    found = _orientation(_bytes(image.info.get("exif")), _bytes(image.info.get("xmp")))
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return found
    try:
        declared = tags.get(Base.Orientation)
    # Pillow decodes a tag on access, and a malformed one can raise any exception.
    except Exception:
        declared = None
    # Pillow rotates a TIFF picture itself during loading, after it has read every EXIF tag.
    image.getexif().load(b"")
    return declared if isinstance(declared, int) and 1 <= declared <= 8 else found


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def _orientation(exif: bytes, xmp: bytes) -> int:
    declared = _exif_orientation(exif)
    if declared is None and (match := _XMP_ORIENTATION.search(xmp[:_MAX_PROFILE_BYTES])):
        declared = int(match[1])
    return declared or UPRIGHT


def _exif_orientation(exif: bytes) -> int | None:
    """Read the orientation, 1 to 8, from the first directory of EXIF data, which has the structure of a TIFF file."""
    while exif.startswith(_EXIF):
        exif = exif[len(_EXIF) :]
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 10:
        return None
    (start,) = struct.unpack_from(f"{order}I", exif, 4)
    if start + 2 > len(exif):
        return None
    (count,) = struct.unpack_from(f"{order}H", exif, start)
    whole = min(count, _MAX_ENTRIES, (len(exif) - start - 2) // 12)
    for number in range(whole):
        at = start + 2 + 12 * number
        tag, kind, values = struct.unpack_from(f"{order}HHI", exif, at)
        if tag == Base.Orientation and kind in _INTEGERS and values:
            (value,) = struct.unpack_from(f"{order}{_INTEGERS[kind]}", exif, at + 8)
            return value if 1 <= value <= 8 else None
    return None


def _bare_jpeg(data: bytes) -> Bare:
    kept: list[bytes] = []
    exif = xmp = b""
    start = 0
    for marker, at, end in _segments(data):
        if marker not in _JPEG_METADATA:
            continue
        kept.append(data[start:at])
        start = end
        content = data[at + 4 : end]
        if marker == _APP1 and content.startswith(_EXIF):
            exif = exif or content
        elif marker == _APP1 and content.startswith(_XMP):
            xmp = content
    whole = b"".join([*kept, data[start:]]) if kept else data
    return Bare(whole, _orientation(exif, xmp))


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the marker, start and end of every segment before the pixels, until the first malformed one."""
    at = len(_JPEG)
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _STANDALONE:
            at += 2
        elif marker == _SCAN or not 0xC0 <= marker <= 0xFE:
            return
        else:
            (length,) = struct.unpack_from(">H", data, at + 2)
            end = at + 2 + length
            if length < 2 or end > len(data):
                return
            yield marker, at, end
            at = end


def _bare_png(data: bytes) -> Bare:
    kept = [_PNG]
    exif = profile = xmp = b""
    for name, at, end in _chunks(data):
        if not name[:1].islower() or name in _PNG_PIXELS:
            kept.append(data[at:end])
        elif name == b"eXIf":
            exif = data[at + 8 : end - 4]
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            content = data[at + 8 : min(end - 4, at + 8 + _MAX_PROFILE_BYTES)]
            profile = profile or _raw_profile(name, content)
            xmp = xmp or _xmp(name, content)
    return Bare(b"".join(kept), _orientation(exif or profile, xmp))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, start and end of every chunk; the range includes its length and checksum."""
    at = len(_PNG)
    for _ in range(MAX_CHUNKS):
        if at + 8 > len(data):
            return
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + length + 12
        yield name, at, min(end, len(data))
        if name == b"IEND" or end >= len(data):
            return
        at = end
    raise UndecodableInput(
        f"a PNG picture has at most {MAX_CHUNKS:,} chunks, this one has more; save it again"
    )


def _raw_profile(name: bytes, content: bytes) -> bytes:
    """Return EXIF data in ImageMagick's old hexadecimal form, from before PNG had an EXIF chunk."""
    keyword, _, value = content.partition(b"\0")
    if keyword != b"Raw profile type exif":
        return b""
    try:
        text = zlib.decompressobj().decompress(value[1:], _MAX_PROFILE_BYTES) if name == b"zTXt" else value
        digits = b"".join(text.split(b"\n")[3:])
        return bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
    except (zlib.error, ValueError):
        return b""


def _xmp(name: bytes, content: bytes) -> bytes:
    """Return XMP metadata if it is uncompressed, as the standard requires."""
    keyword, _, value = content.partition(b"\0")
    return value if name == b"iTXt" and keyword == b"XML:com.adobe.xmp" and value[:1] == b"\0" else b""
