"""Pictures of every awkward kind, and bytes that only look like pictures."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

SIDE = 8


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def noise(mode: str = "RGB", side: int = 24) -> Image.Image:
    channels = {"RGB": 3, "RGBA": 4, "L": 1, "CMYK": 4}[mode]
    pixels = np.random.default_rng(3).integers(0, 256, (side, side, channels), dtype=np.uint8)
    return Image.fromarray(pixels.squeeze(), mode)


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(noise(), "JPEG", exif=exif)


def animated() -> bytes:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue", "green")]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def sixteen_bit() -> bytes:
    return encoded(Image.fromarray(np.linspace(0, 65535, 400, dtype=np.uint16).reshape(20, 20)), "PNG")


def announcing(width: int, height: int) -> bytes:
    """A PNG whose header announces a size that its data does not have."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def oddly_tagged() -> bytes:
    """A turned JPEG, one tag of whose EXIF data Pillow cannot write again."""
    plain = encoded(noise(), "JPEG")
    tags = struct.pack("<HHII", 0x011A, 5, 1, 0x7FFFFFFF) + struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    content = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + tags + bytes(4)
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + plain[2:]


def wordy() -> bytes:
    """A PNG with a text that is too long for Pillow."""
    plain = encoded(noise(), "PNG")
    data = b"Comment\0\0" + zlib.compress(bytes(3 << 20))
    text = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    return plain[:33] + text + plain[33:]


def without_range() -> bytes:
    """Fractions of which nothing tells which is white."""
    return encoded(Image.fromarray(np.linspace(-2, 3, 400, dtype=np.float32).reshape(20, 20)), "TIFF")


GOOD = {
    "jpeg": encoded(noise(), "JPEG"),
    "png": encoded(noise(), "PNG"),
    "webp": encoded(noise(), "WEBP"),
    "bmp": encoded(noise(), "BMP"),
    "tiff": encoded(noise(), "TIFF"),
    "grey": encoded(noise("L"), "PNG"),
    "cmyk": encoded(noise("CMYK"), "JPEG"),
    "16-bit": sixteen_bit(),
    "palette": encoded(noise().convert("P"), "PNG"),
    "alpha": encoded(noise("RGBA"), "PNG"),
    "exif-rotated": rotated(),
    "exif-odd": oddly_tagged(),
    "long-text": wordy(),
    "animated": animated(),
    "1-pixel": encoded(Image.new("RGB", (1, 1), "teal"), "PNG"),
}

TRUNCATED = {
    "truncated-jpeg": GOOD["jpeg"][: len(GOOD["jpeg"]) // 2],
    "truncated-png": GOOD["png"][: len(GOOD["png"]) // 2],
}
BROKEN = TRUNCATED | {
    "empty": b"",
    "text": b"this is no picture at all, whatever its content type says",
    "no-range": without_range(),
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "png-signature-alone": b"\x89PNG\r\n\x1a\n",
}
GIGAPIXEL = announcing(30_000, 30_000)
