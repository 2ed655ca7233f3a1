"""Pictures as cameras, scanners and editors write them: the right pixels, or a reason."""

import io
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin, TiffImagePlugin

from adapters.datasets import load
from registry.errors import UndecodableInput
from registry.recipe import ImageRecipe
from registry.recipe.metadata import MAX_CHUNKS

INPUTS = Path(__file__).parent / "inputs"
RECIPE = ImageRecipe(48, 64, colour="L")
SMALL = ImageRecipe(8, 8, colour="L")


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def spliced(png: bytes, name: bytes, data: bytes, before: bytes = b"IDAT") -> bytes:
    """Put a chunk before the first one of a name."""
    at = png.index(before) - 4
    return png[:at] + chunk(name, data) + png[at:]


def corner() -> Image.Image:
    """A grey picture whose dark quarter says which way up it is: at the left top."""
    values = np.full((8, 8), 200, np.uint8)
    values[:4, :4] = 20
    return Image.fromarray(values)


def directory(entries: list[tuple[int, int, int, bytes]], order: str = "<", extra: bytes = b"") -> bytes:
    """EXIF data of one directory: tag, type, count, and the four bytes of value or offset."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    body = b"".join(struct.pack(f"{order}HHI", *entry[:3]) + entry[3] for entry in entries)
    return head + struct.pack(f"{order}IH", 8, len(entries)) + body + bytes(4) + extra


def turned(order: str = "<", value: int = 6) -> tuple[int, int, int, bytes]:
    return (0x0112, 3, 1, struct.pack(f"{order}HH", value, 0))


def with_exif(exif: bytes, image: Image.Image | None = None) -> bytes:
    """A JPEG with EXIF data as they are given: Pillow would tidy them."""
    data = encoded(image or corner(), "JPEG", quality=95)
    content = b"Exif\0\0" + exif
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + data[2:]


def dark_quarter(pixels: np.ndarray) -> str:
    """Tell where the dark quarter of ``corner`` is."""
    means = {
        f"{down} {across}": pixels[rows, columns].mean()
        for down, rows in (("top", slice(0, 4)), ("bottom", slice(4, 8)))
        for across, columns in (("left", slice(0, 4)), ("right", slice(4, 8)))
    }
    return min(means, key=lambda place: float(means[place]))


class TestOrientation:
    @pytest.mark.parametrize("file", sorted((INPUTS / "exif").glob("*.jpg")), ids=lambda file: file.stem)
    def test_whatever_other_tags_hold_a_picture_is_turned_upright(self, file: Path) -> None:
        upright = "garbage" in file.stem  # it has no orientation that could be read
        with Image.open(file) as image:
            expected = image if upright else image.transpose(Image.Transpose.ROTATE_270)
            expected = expected.convert("L")
        size = (expected.height, expected.width)
        assert size == ((64, 48) if upright else (48, 64))
        assert np.array_equal(
            ImageRecipe(*size, colour="L").decode(file.read_bytes())[..., 0], np.asarray(expected)
        )

    @pytest.mark.parametrize("order", "<>")
    @pytest.mark.parametrize(
        "odd",
        [
            (0x011A, 5, 1, b"\xff\xff\xff\x7f"),  # a rational beyond the end
            (0x011A, 11, 1, struct.pack("<f", float("inf"))),
            (0x0128, 2, 4, b"inch"),
            (0x8769, 4, 1, b"\xff\xff\xff\xff"),  # a directory that is not there
            (0x8769, 4, 1, b"\x08\0\0\0"),  # the directory itself
            (0x010E, 2, 0xFFFFFFFF, bytes(4)),
            (0x0111, 99, 1, bytes(4)),  # a type that does not exist
        ],
        ids=["rational", "float", "ascii", "lost", "loop", "huge", "type"],
    )
    def test_odd_tags_change_nothing(self, odd: tuple[int, int, int, bytes], order: str) -> None:
        for entries in ([odd, turned(order)], [turned(order), odd]):
            pixels = SMALL.decode(with_exif(directory(entries, order)))
            assert dark_quarter(pixels) == "top right"

    @pytest.mark.parametrize("value", range(10))
    @pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
    def test_every_orientation_is_what_pillow_makes_of_it(self, kind: str, value: int) -> None:
        image = corner().convert("RGB")
        lossless = {"lossless": True} if kind == "webp" else {}
        if kind == "tiff":
            data = encoded(image, kind, tiffinfo={0x0112: value})
        elif kind == "jpeg":
            data = with_exif(directory([turned(value=value)]), image)
        else:
            exif = Image.Exif()
            exif[0x0112] = value
            data = encoded(image, kind, exif=exif, **lossless)
        places = {
            2: "top right",
            3: "bottom right",
            4: "bottom left",
            6: "top right",
            7: "bottom right",
            8: "bottom left",
        }
        assert dark_quarter(SMALL.decode(data)) == places.get(value, "top left")

    @pytest.mark.parametrize(
        "exif",
        [
            b"",
            b"II",
            b"II*\0",
            b"II*\0\xff\xff\xff\xff\0\0",
            b"MM\0*\0\0\0\x08\xff\xff",
            directory([turned(value=6)])[:14],
        ],
    )
    def test_broken_exif_is_none(self, exif: bytes) -> None:
        assert dark_quarter(SMALL.decode(with_exif(exif))) == "top left"

    def test_a_full_segment_of_tags_is_read_as_far_as_is_reasonable(self) -> None:
        many = [(0x9000 + number % 100, 4, 1, bytes(4)) for number in range(5000)]
        assert dark_quarter(SMALL.decode(with_exif(directory([turned(), *many])))) == "top right"
        assert dark_quarter(SMALL.decode(with_exif(directory([*many, turned()])))) == "top left"

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=200), st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]))
    def test_no_exif_data_make_a_sound_picture_unreadable(self, data: bytes, head: bytes) -> None:
        plain = SMALL.decode(encoded(corner(), "JPEG", quality=95))[..., 0]
        turns = [np.rot90(flipped, times) for flipped in (plain, plain[:, ::-1]) for times in range(4)]
        pixels = SMALL.decode(with_exif(head + data))[..., 0]
        assert any(np.array_equal(pixels, turned) for turned in turns)

    @settings(max_examples=300, deadline=None)
    @given(
        st.binary(max_size=100),
        st.sampled_from(
            [
                b"tEXt",
                b"zTXt",
                b"iTXt",
                b"eXIf",
                b"iCCP",
                b"gAMA",
                b"cHRM",
                b"pHYs",
                b"sRGB",
                b"sBIT",
                b"prVt",
            ]
        ),
        st.sampled_from([b"", b"Raw profile type exif\0", b"XML:com.adobe.xmp\0", b"II*\0\x08\0\0\0"]),
        st.sampled_from([b"IDAT", b"IEND"]),
    )
    def test_no_chunk_beside_the_pixels_makes_a_sound_picture_unreadable(
        self, data: bytes, name: bytes, head: bytes, before: bytes
    ) -> None:
        plain = encoded(corner(), "PNG")
        pixels = SMALL.decode(spliced(plain, name, head + data, before))
        assert np.bincount(pixels.ravel()).nonzero()[0].tolist() == [20, 200]

    def test_xmp_counts_where_exif_says_nothing(self) -> None:
        xmp = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'
        data = with_exif(directory([]))
        data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp + data[2:]
        assert dark_quarter(SMALL.decode(data)) == "top right"

    @pytest.mark.parametrize("name", [b"tEXt", b"zTXt"])
    def test_imagemagick_s_profile_counts(self, name: bytes) -> None:
        exif = b"Exif\0\0" + directory([turned()])
        text = b"\nexif\n%8d\n%s\n" % (len(exif), exif.hex().encode())
        body = b"\0" + zlib.compress(text) if name == b"zTXt" else text
        data = spliced(encoded(corner(), "PNG"), name, b"Raw profile type exif\0" + body)
        assert dark_quarter(SMALL.decode(data)) == "top right"

    def test_tiff_is_turned_once_whatever_its_directories_hold(self) -> None:
        info = TiffImagePlugin.ImageFileDirectory_v2()
        info[0x0112] = 6
        info.tagtype[0x8769] = 4
        info[0x8769] = 0x7FFFFFFF
        data = encoded(corner(), "TIFF", tiffinfo=info)
        assert dark_quarter(SMALL.decode(data)) == "top right"

    def test_a_cmyk_jpeg_keeps_its_colours_beside_metadata(self) -> None:
        image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
        data = with_exif(directory([turned()]), image)
        red, green, blue = ImageRecipe(8, 8).decode(data)[4, 4]
        assert red > 200 and green < 40 and blue < 40


class TestMetadata:
    def test_a_long_text_chunk_is_skipped(self) -> None:
        data = (INPUTS / "images" / "ztxt3mb.png").read_bytes()
        pixels = RECIPE.decode(data)
        assert pixels.min() == 20 and pixels.max() == 200

    @pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
    @pytest.mark.parametrize(
        ("name", "data"),
        [
            (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(64 << 20), 9)),
            (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(64 << 20), 9)),
            (b"iTXt", b"Comment\0\0\0\0\0" + b"x" * (2 << 20)),
            (b"tEXt", b"Comment\0" + b"x" * (70 << 20)),
            (b"iCCP", b"profile\0\0" + zlib.compress(bytes(64 << 20), 9)),
            (b"zTXt", b"Comment\0\7method"),
            (b"zTXt", b"Raw profile type exif\0\0not compressed"),
            (b"sRGB", b""),
            (b"eXIf", b"II"),
        ],
        ids=["zTXt", "xmp", "iTXt", "tEXt", "icc", "method", "profile", "sRGB", "eXIf"],
    )
    def test_chunks_that_are_no_pixels_cost_nothing(self, name: bytes, data: bytes, before: bytes) -> None:
        plain = encoded(corner(), "PNG")
        assert np.array_equal(SMALL.decode(spliced(plain, name, data, before)), SMALL.decode(plain))

    def test_many_text_chunks_are_skipped_and_too_many_refused(self) -> None:
        plain = encoded(corner(), "PNG")
        text = chunk(b"tEXt", b"Comment\0" + bytes(1000))
        at = plain.index(b"IDAT") - 4
        few, many = (plain[:at] + text * count + plain[at:] for count in (66_000, MAX_CHUNKS))
        assert np.array_equal(SMALL.decode(few), SMALL.decode(plain))
        with pytest.raises(
            UndecodableInput, match="at most 100,000 chunks, this one has more; save it again"
        ):
            SMALL.decode(many)

    def test_a_text_chunk_that_is_cut_off_loses_no_pixel(self) -> None:
        plain = encoded(corner(), "PNG")
        cut = spliced(plain, b"tEXt", b"Comment\0" + bytes(100), b"IEND")[:-60]
        assert np.array_equal(SMALL.decode(cut), SMALL.decode(plain))
        with pytest.raises(UndecodableInput):
            SMALL.decode(plain[: plain.index(b"IDAT") + 20])

    def test_transparency_and_palette_are_kept(self) -> None:
        image = Image.new("P", (8, 8), 1)
        image.putpalette([0, 0, 0, 10, 20, 30])
        opaque, clear = (encoded(image, "PNG", **kept) for kept in ({}, {"transparency": 1}))
        recipe = ImageRecipe(8, 8)
        text = b"Comment\0" + bytes(9)
        assert recipe.decode(spliced(opaque, b"tEXt", text))[0, 0].tolist() == [10, 20, 30]
        assert recipe.decode(spliced(clear, b"tEXt", text))[0, 0].tolist() == [255, 255, 255]

    def test_the_first_frame_of_an_animated_png_counts(self) -> None:
        frames = [Image.new("L", (8, 8), level) for level in (30, 200)]
        text = PngImagePlugin.PngInfo()
        text.add_text("Comment", "x" * 1000, zip=True)
        data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], pnginfo=text)
        assert np.unique(SMALL.decode(data)).tolist() == [30]

    def test_the_pixels_of_a_jpeg_do_not_depend_on_its_metadata(self) -> None:
        plain = encoded(corner(), "JPEG")
        comments = b"".join(
            b"\xff" + bytes([marker]) + struct.pack(">H", 2 + 300) + b"http" + bytes(296)
            for marker in (0xFE, 0xE2, 0xED, 0xEF)
        )
        assert np.array_equal(SMALL.decode(plain[:2] + comments + plain[2:]), SMALL.decode(plain))


def greys(values: object, kind: str) -> bytes:
    """A grey picture, stored as a type: 20 at the left top, 200 elsewhere, times whatever was asked for."""
    array = np.asarray(values)
    if kind == "png16":
        return encoded(Image.fromarray(array.astype(np.uint16)), "PNG")
    if kind == "tiff12":
        return _packed(array)
    dtype = {"tiff16": np.uint16, "tiff32": np.int32, "tifff": np.float32}[kind]
    return encoded(Image.fromarray(array.astype(dtype)), "TIFF")


def _packed(values: np.ndarray) -> bytes:
    """A TIFF of 12 bits a value, two in three bytes."""
    height, width = values.shape
    pairs = values.astype(np.uint32).reshape(-1, 2)
    joined = pairs[:, 0] << 12 | pairs[:, 1]
    data = b"".join(int(value).to_bytes(3, "big") for value in joined)
    tags: Mapping[int, int] = {
        256: width,
        257: height,
        258: 12,
        259: 1,
        262: 1,
        273: 8,
        277: 1,
        278: height,
        279: len(data),
    }
    at = 8 + len(data)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", at) + data + struct.pack("<H", len(tags)) + entries + bytes(4)


LEVELS = np.asarray(corner(), np.float64)


class TestGreys:
    @pytest.mark.parametrize("name", ["float255.tif", "int32-8bitvalues.tif", "u16-12bit.png"])
    def test_levels_of_fewer_bits_than_the_file_has_do_not_turn_black(self, name: str) -> None:
        remarks: list[str] = []
        pixels = RECIPE.decode((INPUTS / "images" / name).read_bytes(), remark=remarks.append)
        assert abs(int(pixels.min()) - 20) <= 1 and abs(int(pixels.max()) - 200) <= 1
        (remark,) = remarks
        assert remark.endswith("by their values")

    @pytest.mark.parametrize(
        ("kind", "white", "said"),
        [
            ("png16", 65535, False),
            ("png16", 4095, True),
            ("png16", 255, True),
            ("tiff16", 65535, False),
            ("tiff16", 4095, True),
            ("tiff12", 4095, False),
            ("tiff32", 65535, True),
            ("tiff32", 4095, True),
            ("tiff32", 255, True),
            ("tifff", 1, False),
            ("tifff", 255, True),
            ("tifff", 65535, True),
        ],
    )
    def test_every_usual_range_gives_the_same_levels(self, kind: str, white: float, said: bool) -> None:
        remarks: list[str] = []
        pixels = SMALL.decode(greys(LEVELS / 255 * white, kind), remark=remarks.append)
        assert np.abs(pixels[..., 0] - LEVELS).max() <= 1
        assert bool(remarks) == said

    @pytest.mark.parametrize("top", [4096, 20_000, 65535])
    def test_a_true_picture_of_16_bits_is_scaled_as_ever(self, top: int) -> None:
        values = np.random.default_rng(top).integers(0, top + 1, (8, 8)).astype(np.uint16)
        values[0, 0] = top
        for kind in ("png16", "tiff16"):
            pixels = SMALL.decode(greys(values, kind))[..., 0]
            assert np.array_equal(pixels, np.clip(values / 257.0 + 0.5, 0, 255).astype(np.uint8))

    @pytest.mark.parametrize("kind", ["png16", "tiff16", "tiff32", "tifff"])
    def test_black_is_black_without_a_word(self, kind: str) -> None:
        remarks: list[str] = []
        assert not SMALL.decode(greys(np.zeros((8, 8)), kind), remark=remarks.append).any()
        assert not remarks

    def test_overshoot_of_a_filter_and_missing_values_are_no_range(self) -> None:
        for white in (1.0, 255.0):
            values = LEVELS / 255 * white
            values[0, 0], values[7, 7], values[7, 6] = -0.01 * white, 1.02 * white, np.nan
            pixels = SMALL.decode(greys(values, "tifff"))[..., 0]
            assert pixels[0, 0] == 0 and pixels[7, 7] == 255 and pixels[7, 6] == 0
            assert np.abs(pixels[:, :6] - LEVELS[:, :6])[1:].max() <= 1

    @pytest.mark.parametrize(
        ("kind", "low", "high"),
        [
            ("tiff32", -1000, 3000),
            ("tiff32", 0, 70_000),
            ("tifff", 0, 3.5),
            ("tifff", -2.1, 2.6),
            ("tifff", 0, 1e6),
            ("tifff", 0, np.inf),
            ("tifff", -np.inf, 1),
        ],
    )
    def test_a_range_that_nothing_tells_is_refused(self, kind: str, low: float, high: float) -> None:
        values = np.full((8, 8), float(low) if np.isfinite(low) else 0.0)
        values[0, 0], values[4:, 4:] = low, high
        with pytest.raises(
            UndecodableInput, match=r"expected greys of .*this picture's run from .*; scale them"
        ):
            SMALL.decode(greys(values, kind))

    def test_a_dataset_counts_them_by_their_range(self, tmp_path: Path) -> None:
        for number, label in enumerate(("a", "b")):
            (tmp_path / label).mkdir()
            for at in range(6):
                values = LEVELS / 255 * (4095 if at % 2 else 65535) + at + 10 * number
                (tmp_path / label / f"{at}.png").write_bytes(greys(values.clip(0, 65535), "png16"))
        data = load(tmp_path, SMALL)
        assert (
            data.remarks == {"greys of 16 bits read as 0 to 4095, by their values": 6} and not data.excluded
        )
        assert any(note.startswith("greys of 16 bits") and "a/1.png" in note for note in data.notes)

    @pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4), (4, 2)])
    def test_colours_of_12_bits_in_16_are_refused(self, colour: int, channels: int) -> None:
        def picture(white: int) -> bytes:
            rows = b"\0" + struct.pack(">H", white) * 8 * channels
            header = struct.pack(">IIBBBBB", 8, 8, 16, colour, 0, 0, 0)
            body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows * 8)) + chunk(b"IEND", b"")
            return b"\x89PNG\r\n\x1a\n" + body

        with pytest.raises(UndecodableInput, match="use 12 or fewer, and would be black"):
            SMALL.decode(picture(4095))
        assert SMALL.decode(picture(65535)).min() == 255
        SMALL.decode(picture(0))
