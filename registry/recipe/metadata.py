"""What a picture's file says beside its pixels: all that is used of it is the orientation.

Pillow parses metadata while it opens a file: it inflates the text chunks of a PNG, and refuses the
picture where one is long; it reads every EXIF tag, and an odd one ends in an exception. So the
metadata of JPEG and PNG files are taken off before Pillow sees them, and the orientation is read
here, whatever else they hold.
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
"""The EXIF orientation of a picture that needs no turning."""

MAX_CHUNKS = 100_000
"""Chunks of one PNG file. The pixels of 64 megapixels come in 8 KiB each, as libpng writes them, to some 24 000."""

_JPEG = b"\xff\xd8"
_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF = b"Exif\0\0"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')

_SCAN = 0xDA
_STANDALONE = frozenset(range(0xD0, 0xDA))
_APP1 = 0xE1
_JPEG_METADATA = frozenset({*range(0xE1, 0xF0), 0xFE} - {0xEE})
"""Application segments and comments; those that say how colours are coded are kept: JFIF (0xE0) and Adobe (0xEE)."""

_PNG_PIXELS = frozenset({b"tRNS", b"acTL", b"fcTL", b"fdAT"})
"""Chunks that may be skipped by name, and yet matter: transparency, and the frames of an animation."""

_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}
"""TIFF's types of whole numbers (TIFF 6.0, section 2), as ``struct`` calls them."""

_MAX_ENTRIES = 4096
_MAX_PROFILE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Bare:
    """A picture's file without its metadata.

    Attributes:
        data: the file; of formats other than JPEG and PNG as it came.
        orientation: EXIF's, 1 to 8; None where Pillow has to be asked.
    """

    data: bytes
    orientation: int | None


def bare(data: bytes) -> Bare:
    """Take the metadata off a JPEG or PNG file; leave any other as it is.

    Raises:
        UndecodableInput: a PNG file of over 100 000 chunks.
    """
    if data.startswith(_JPEG):
        return _bare_jpeg(data)
    if data.startswith(_PNG):
        return _bare_png(data)
    return Bare(data, None)


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of an opened picture, 1 to 8, and keep Pillow from reading its metadata again."""
    found = _orientation(_bytes(image.info.get("exif")), _bytes(image.info.get("xmp")))
    tags = getattr(image, "tag_v2", None)
    if tags is None:
        return found
    try:
        declared = tags.get(Base.Orientation)
    # Pillow decodes a tag when it is asked for, and a broken one raises whatever it happens to.
    except Exception:
        declared = None
    # Pillow turns a TIFF picture itself while it loads, after reading every EXIF tag.
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
    """Read the one tag, 1 to 8, from the first directory of EXIF data: the structure is that of a TIFF file."""
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
    """Yield the marker, beginning and end of every segment before the pixels, as far as they are well-formed."""
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
    """Yield the name, beginning and end of every chunk up to the last one, each with its length and checksum."""
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
    """Return EXIF data as ImageMagick wrote them before PNG had a chunk of its own: in hexadecimal digits."""
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
    """Return XMP metadata where they stand uncompressed, as the standard asks for."""
    keyword, _, value = content.partition(b"\0")
    return value if name == b"iTXt" and keyword == b"XML:com.adobe.xmp" and value[:1] == b"\0" else b""
