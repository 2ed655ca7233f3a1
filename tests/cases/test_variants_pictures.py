"""Further pictures of the kinds that cameras, scanners and editors write: the right pixels, or a reason."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from registry.errors import UndecodableInput
from registry.recipe import ImageRecipe

SIDE = 16
RECIPE = ImageRecipe(SIDE, SIDE, colour="L")
TURNED, STORED = "right", "left"


def marked() -> Image.Image:
    """Grey 200 with a dark left top quarter: orientation 6 brings it to the right top."""
    values = np.full((SIDE, SIDE), 200, np.uint8)
    values[: SIDE // 2, : SIDE // 2] = 20
    return Image.fromarray(values)


def side(data: bytes) -> str:
    """Decode a file and tell on which side of its upper half the dark quarter is."""
    pixels = RECIPE.decode(data)[: SIDE // 2, :, 0].astype(int)
    left, right = pixels[:, : SIDE // 2], pixels[:, SIDE // 2 :]
    assert {round(float(half.mean()), -1) for half in (left, right)} == {20, 200}
    return STORED if left.mean() < right.mean() else TURNED


def saved(image: Image.Image, format_: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


Entry = tuple[int, int, int, bytes]


def ifd(entries: list[Entry], order: str = "<", at: int = 8, following: int = 0, gap: int = 0) -> bytes:
    """One directory as it stands in a file, ``gap`` bytes after the header of 8."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", at + gap)
    body = b"".join(
        struct.pack(f"{order}HHI", tag, kind, count) + value for tag, kind, count, value in entries
    )
    return (
        head
        + bytes(gap)
        + struct.pack(f"{order}H", len(entries))
        + body
        + struct.pack(f"{order}I", following)
    )


def upright(order: str = "<", value: int = 6) -> Entry:
    return (0x0112, 3, 1, struct.pack(f"{order}HH", value, 0))


def long(value: int, order: str = "<") -> bytes:
    return struct.pack(f"{order}I", value)


def segment(content: bytes, marker: int = 0xE1) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg(*segments: bytes) -> bytes:
    """A JPEG with segments straight after its first marker."""
    plain = saved(marked(), "JPEG", quality=95)
    return plain[:2] + b"".join(segments) + plain[2:]


def exif(data: bytes) -> bytes:
    return segment(b"Exif\0\0" + data)


XMP = b"http://ns.adobe.com/xap/1.0/\0"


def thumbnail(order: str) -> bytes:
    """Two directories: the picture's own says 6, the thumbnail's 1."""
    first = ifd([upright(order)], order, following=26)
    assert len(first) == 26
    return first + ifd([upright(order, 1)], order)[8:]


def maker_note(order: str) -> bytes:
    """A camera's own notes, whose offsets lead anywhere."""
    garbage = bytes(range(256)) * 4
    first = ifd([upright(order), (0x8769, 4, 1, long(38, order))], order)
    assert len(first) == 38
    note: Entry = (0x927C, 7, len(garbage), long(56, order))
    return first + ifd([note], order)[8:] + garbage


SOUND: dict[str, Callable[[], bytes]] = {
    "maker note": lambda: jpeg(exif(maker_note("<"))),
    "maker note, big-endian": lambda: jpeg(exif(maker_note(">"))),
    "thumbnail's own orientation": lambda: jpeg(exif(thumbnail("<"))),
    "thumbnail's own orientation, big-endian": lambda: jpeg(exif(thumbnail(">"))),
    "more entries announced than there are": lambda: jpeg(
        exif(ifd([upright()])[:8] + struct.pack("<H", 50) + ifd([upright()])[10:])
    ),
    "no pointer to a next directory": lambda: jpeg(exif(ifd([upright()])[:-4])),
    "next directory is itself": lambda: jpeg(exif(ifd([upright()], following=8))),
    "directory further back": lambda: jpeg(exif(ifd([upright()], gap=100))),
    "orientation as a long": lambda: jpeg(exif(ifd([(0x0112, 4, 1, long(6))]))),
    "orientation as a long, big-endian": lambda: jpeg(exif(ifd([(0x0112, 4, 1, long(6, ">"))], ">"))),
    "GPS directory of noise": lambda: jpeg(exif(ifd([upright(), (0x8825, 4, 1, long(38))]) + b"\xff" * 90)),
    "date of no length": lambda: jpeg(exif(ifd([(0x0132, 2, 0, bytes(4)), upright()]))),
    "tags out of order": lambda: jpeg(
        exif(ifd([(0xA005, 4, 1, long(9)), upright(), (0x0100, 3, 1, bytes(4))]))
    ),
    "XMP before EXIF": lambda: jpeg(segment(XMP + b"<x/>"), exif(ifd([upright()]))),
    "XMP that says otherwise": lambda: jpeg(
        segment(XMP + b'<x tiff:Orientation="1"/>'), exif(ifd([upright()]))
    ),
    "second EXIF of noise": lambda: jpeg(exif(ifd([upright()])), exif(b"\xff" * 60)),
    "second EXIF that says otherwise": lambda: jpeg(exif(ifd([upright()])), exif(ifd([upright(value=1)]))),
    "segment of another kind in APP1": lambda: jpeg(segment(b"\xff" * 40), exif(ifd([upright()]))),
    "fill bytes before the marker": lambda: jpeg(b"\xff\xff" + exif(ifd([upright()]))),
    "Photoshop's resources": lambda: jpeg(
        exif(ifd([upright()])), segment(b"Photoshop 3.0\x008BIM\xff\xff\xff\xff", 0xED)
    ),
    "Multi-Picture Format of noise": lambda: jpeg(
        exif(ifd([upright()])), segment(b"MPF\0II*\0\xff\xff\xff\xff", 0xE2)
    ),
    "colour profile of noise": lambda: jpeg(
        exif(ifd([upright()])), segment(b"ICC_PROFILE\0\x09\x01xx", 0xE2)
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_jpeg_with_odd_metadata_is_turned_upright(name: str) -> None:
    assert side(SOUND[name]()) == TURNED


@pytest.mark.parametrize(
    "entry",
    [
        (0x0112, 3, 2, struct.pack("<HH", 6, 6)),
        (0x0112, 1, 1, b"\6\0\0\0"),
        (0x0112, 2, 2, b"6\0\0\0"),
        (0x0112, 9, 1, long(6)),
        (0x0112, 5, 1, long(200)),
        (0x0112, 3, 0, bytes(4)),
        (0x0112, 3, 1, struct.pack("<HH", 60_000, 0)),
    ],
    ids=["two", "byte", "text", "signed", "rational", "none", "range"],
)
def test_an_orientation_of_another_type_costs_no_picture(entry: Entry) -> None:
    assert side(jpeg(exif(ifd([entry])))) in (TURNED, STORED)


def riff(webp: bytes, chunk: bytes) -> bytes:
    """Replace the EXIF chunk of a WebP by other data."""
    at = webp.index(b"EXIF")
    body = webp[12:at] + b"EXIF" + struct.pack("<I", len(chunk)) + chunk + bytes(len(chunk) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def webp(data: bytes) -> bytes:
    plain = Image.Exif()
    plain[0x0112] = 1
    return riff(saved(marked().convert("RGB"), "WEBP", lossless=True, exif=plain), data)


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"], ids=["bare", "prefixed"])
@pytest.mark.parametrize("order", "<>")
def test_webp_is_turned_whatever_stands_in_its_exif(prefix: bytes, order: str) -> None:
    assert side(webp(prefix + ifd([upright(order)], order))) == TURNED
    assert side(webp(prefix + maker_note(order))) == TURNED
    assert side(webp(prefix + ifd([(0x011A, 2, 9, b"\xff" * 4), upright(order)], order))) == TURNED
    assert side(webp(prefix + b"\xff" * 31)) == STORED


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(*chunks: bytes, before: bytes = b"IDAT", image: Image.Image | None = None) -> bytes:
    plain = saved(image or marked(), "PNG")
    at = plain.index(before) - 4
    return plain[:at] + b"".join(chunks) + plain[at:]


@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
@pytest.mark.parametrize("order", "<>")
def test_png_is_turned_wherever_its_exif_stands(before: bytes, order: str) -> None:
    for data in (ifd([upright(order)], order), maker_note(order), thumbnail(order)):
        assert side(png(png_chunk(b"eXIf", data), before=before)) == TURNED


@pytest.mark.parametrize(
    ("tag", "kind", "value"),
    [(0x011A, 2, "seventy-two"), (0x0132, 2, "\0"), (0x927C, 7, b"\xff" * 999), (0x8769, 4, 0xFFFFFFF0)],
)
def test_tiff_is_turned_whatever_stands_beside_the_orientation(tag: int, kind: int, value: object) -> None:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[0x0112] = 6
    info.tagtype[tag] = kind
    info[tag] = value
    assert side(saved(marked(), "TIFF", tiffinfo=info)) == TURNED


def itxt(number: int) -> bytes:
    return png_chunk(b"iTXt", b"Comment\0\0\0\0\0" + b"%d" % number * 9)


LONG_METADATA: dict[str, Callable[[], bytes]] = {
    "zTXt behind the pixels": lambda: png(
        png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3 << 20))), before=b"IEND"
    ),
    "many small iTXt": lambda: png(*(itxt(number) for number in range(5000))),
    "many compressed texts": lambda: png(
        *(png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(90_000))) for _ in range(1500))
    ),
    "colour profile of 3 MB": lambda: png(png_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(3 << 20)))),
    "colour profile of noise": lambda: png(
        png_chunk(b"iCCP", b"x\0\0" + zlib.compress(np.random.default_rng(0).bytes(2 << 20)))
    ),
    "EXIF of 3 MB": lambda: png(png_chunk(b"eXIf", ifd([upright(value=1)]) + bytes(3 << 20))),
    "a program's own chunk": lambda: png(png_chunk(b"prVW", bytes(9 << 20))),
    "a workflow as text": lambda: png(png_chunk(b"tEXt", b"workflow\0" + b'{"a": 1}' * 400_000)),
    "bytes behind the end": lambda: png() + bytes(2 << 20),
    "JPEG with 4 MB of comments": lambda: jpeg(*(segment(b"x" * 65_000, 0xFE) for _ in range(64))),
    "JPEG with XMP in 60 segments": lambda: jpeg(
        *(segment(b"http://ns.adobe.com/xmp/extension/\0" + bytes(60_000)) for _ in range(60))
    ),
    "WebP with XMP of 3 MB": lambda: saved(
        marked().convert("RGB"), "WEBP", lossless=True, xmp=b"<x>" + bytes(3 << 20)
    ),
    "GIF with a comment of 3 MB": lambda: saved(marked(), "GIF", comment=b"x" * (3 << 20)),
    "TIFF with a description of 3 MB": lambda: saved(marked(), "TIFF", tiffinfo={0x010E: "x" * (3 << 20)}),
}


@pytest.mark.parametrize("name", LONG_METADATA)
def test_pixels_beside_long_metadata_are_decoded(name: str) -> None:
    assert side(LONG_METADATA[name]()) == STORED


LEVELS = np.asarray(marked(), np.float64)


def decoded(data: bytes) -> tuple[np.ndarray, list[str]]:
    remarks: list[str] = []
    return RECIPE.decode(data, remark=remarks.append)[..., 0].astype(float), remarks


def right(data: bytes, said: bool) -> None:
    pixels, remarks = decoded(data)
    assert np.abs(pixels - LEVELS).max() <= 1
    assert bool(remarks) == said


def stored(values: np.ndarray, dtype: type, format_: str = "TIFF", **options: object) -> bytes:
    return saved(Image.fromarray(values.astype(dtype)), format_, **options)


def strip(values: np.ndarray, dtype: str, bits: int, sample: int = 1, photometric: int = 1) -> bytes:
    """A TIFF as other programs write it: any type, either byte order, either meaning of zero."""
    order = ">" if dtype[0] == ">" else "<"
    data = values.astype(dtype).tobytes()
    tags = {
        256: SIDE, 257: SIDE, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: SIDE,
        279: len(data), 339: sample,
    }  # fmt: skip
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(data))
    return head + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def test_fractions_up_to_one_are_levels() -> None:
    right(stored(LEVELS / 255, np.float32), said=False)
    right(strip(LEVELS / 255, ">f4", 32, 3), said=False)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compression_changes_no_level(compression: str) -> None:
    right(stored(LEVELS / 255, np.float32, compression=compression), said=False)
    right(stored(LEVELS * 257, np.uint16, compression=compression), said=False)


def test_a_missing_value_leaves_the_others() -> None:
    values = LEVELS / 255
    values[12, 12] = np.nan
    pixels, _ = decoded(stored(values, np.float32))
    pixels[12, 12] = LEVELS[12, 12]
    assert np.abs(pixels - LEVELS).max() <= 1


def test_a_picture_of_missing_values_alone_is_no_picture() -> None:
    with pytest.raises(UndecodableInput):
        decoded(stored(np.full((SIDE, SIDE), np.nan), np.float32))


@pytest.mark.parametrize("order", "<>")
def test_whole_numbers_of_every_type_keep_their_levels(order: str) -> None:
    right(strip(LEVELS * 257, f"{order}u2", 16), said=False)
    right(strip(LEVELS, f"{order}u2", 16), said=True)
    right(strip(LEVELS, f"{order}i4", 32, 2), said=True)


def held(data: bytes) -> None:
    """Either the right levels, or a refusal in one sentence: never other levels."""
    try:
        pixels, _ = decoded(data)
    except UndecodableInput as error:
        assert "\n" not in str(error)
    else:
        assert np.abs(pixels - LEVELS).max() <= 1


@pytest.mark.parametrize(
    ("dtype", "bits", "sample", "scale"),
    [
        ("<u4", 32, 1, 1), (">u4", 32, 1, 257), ("<u4", 32, 1, 65_793 * 255), ("<i2", 16, 2, 1),
        (">i2", 16, 2, 1), ("<i2", 16, 2, 128), ("<f8", 64, 3, 1 / 255), ("<f2", 16, 3, 1 / 255),
        ("<i1", 8, 2, 0.5), ("<u8", 64, 1, 1),
    ],
)  # fmt: skip
def test_types_that_programs_of_science_write_are_right_or_refused(
    dtype: str, bits: int, sample: int, scale: float
) -> None:
    held(strip(LEVELS * scale, dtype, bits, sample))


@pytest.mark.parametrize(
    ("dtype", "bits", "sample", "white"),
    [
        ("<u1", 8, 1, 255),
        ("<u2", 16, 1, 65535),
        (">u2", 16, 1, 65535),
        ("<i4", 32, 2, 255),
        ("<f4", 32, 3, 1),
    ],
)
def test_where_zero_is_white_levels_are_right_or_refused(
    dtype: str, bits: int, sample: int, white: int
) -> None:
    held(strip((255 - LEVELS) / 255 * white, dtype, bits, sample, photometric=0))


def test_ten_bits_in_sixteen_are_told() -> None:
    pixels, remarks = decoded(stored(LEVELS / 255 * 1023, np.uint16, "PNG"))
    assert len(remarks) == 1 and pixels.max() > 40


@pytest.mark.parametrize(("low", "high"), [(0, 65_536), (0, 2**31 - 1), (-1, 255), (-32_768, 32_767)])
def test_whole_numbers_outside_every_range_are_refused(low: int, high: int) -> None:
    values = np.where(LEVELS < 100, low, high)
    with pytest.raises(UndecodableInput, match="scale") as refused:
        decoded(stored(values, np.int32))
    assert "\n" not in str(refused.value)


def test_sixteen_bits_in_full_are_neither_told_nor_changed() -> None:
    values = np.random.default_rng(3).integers(0, 65_536, (SIDE, SIDE))
    values[0, :2] = 0, 65_535
    for data in (stored(values, np.uint16, "PNG"), stored(values, np.uint16), strip(values, ">u2", 16)):
        pixels, remarks = decoded(data)
        assert np.abs(pixels - values / 257).max() <= 1 and not remarks


def test_the_number_of_bits_that_a_png_names_changes_nothing() -> None:
    image = Image.fromarray((LEVELS * 257).astype(np.uint16))
    right(png(png_chunk(b"sBIT", b"\x0c"), before=b"IDAT", image=image), said=False)


def test_an_interlaced_picture_with_texts_is_read() -> None:
    text = PngImagePlugin.PngInfo()
    for number in range(200):
        text.add_itxt("Comment", str(number) * 50, zip=True)
    assert side(saved(marked(), "PNG", pnginfo=text)) == STORED
