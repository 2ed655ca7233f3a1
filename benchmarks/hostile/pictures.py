"""Pictures that cost more to decode than to send."""

import io
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

_MEBIBYTE = 1 << 20


def costly(side: int) -> Iterator[bytes]:
    """Yield files, most of them of ``side`` x ``side`` pixels in one colour."""
    inflated = zlib.compress(b"a" * _MEBIBYTE, 9)
    for kind, count in ((b"zTXt", 28), (b"iCCP", 24)):
        chunks = b"".join(_chunk(kind, b"k%02d\0\0" % number + inflated) for number in range(count))
        yield png(28, 28, chunks)
    yield png(28, 28, data=zlib.compress(bytes(32 * _MEBIBYTE), 9)[:32_000])
    yield png(side, side, depth=1)
    yield png(side - 1, side, colour=6)
    yield png(side // 2, side // 2, depth=16, colour=6)
    yield png(100_000, 100_000, depth=1, data=b"x")
    yield png(side * side, 1, depth=1)
    yield png(1, side * side, depth=1)
    yield black_webp(side)
    yield saved("L", side, "TIFF", compression="tiff_adobe_deflate")
    yield saved("F", side - 1, "TIFF", compression="tiff_adobe_deflate")
    yield saved("L", side, "GIF")
    yield saved("L", side, "JPEG", progressive=True)
    yield scanned(side // 4, 500)
    yield scanned(128, 3000)
    yield animated(side // 8, 64)
    yield b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n(%pipe%id>x) (w) file\n%%EOF\n"
    yield b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    # A directory of tags that names itself as the next one.
    tags = b"".join(struct.pack("<HHII", tag, 4, 1, 28) for tag in (256, 257))
    yield b"II*\0" + struct.pack("<IH", 8, 2) + tags + struct.pack("<I", 8)


def png(
    width: int,
    height: int,
    chunks: bytes = b"",
    *,
    depth: int = 8,
    colour: int = 0,
    data: bytes | None = None,
) -> bytes:
    """Return a black PNG, whatever its size, with chunks before its pixels; or with ``data`` in their place."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    if data is None:
        line = bytes((width * depth * (4 if colour == 6 else 1) + 7) // 8 + 1)
        packer = zlib.compressobj(9)
        data = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (_chunk(b"IHDR", header), chunks, _chunk(b"IDAT", data), _chunk(b"IEND", b""))
    )


def black_webp(side: int) -> bytes:
    """Return a lossless WebP: hundreds of bytes for millions of pixels."""
    return saved("RGB", side, "WEBP", lossless=True)


def saved(mode: str, side: int, kind: str, **options: object) -> bytes:
    """Return a black picture."""
    stream = io.BytesIO()
    Image.new(mode, (side, side)).save(stream, kind, **options)
    return stream.getvalue()


def scanned(side: int, scans: int) -> bytes:
    """Return a progressive JPEG whose last scan comes again and again."""
    plain = saved("L", side, "JPEG", progressive=True)
    last = plain.rindex(b"\xff\xda")
    return plain[:-2] + plain[last:-2] * scans + plain[-2:]


def animated(side: int, frames: int) -> bytes:
    """Return a GIF of many frames."""
    stream = io.BytesIO()
    pictures = [Image.new("L", (side, side), number) for number in range(frames)]
    pictures[0].save(stream, "GIF", save_all=True, append_images=pictures[1:])
    return stream.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
