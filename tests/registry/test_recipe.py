"""Pictures become pixels in one way only."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from registry.digests import canonical_json
from registry.errors import InputTooLarge, InvalidRecipe, UndecodableInput, WrongModality
from registry.recipe import ImageRecipe, parse

RECIPE = ImageRecipe(height=24, width=32)


def encode(image: Image.Image, format_: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def announced_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header announces any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


def test_a_recipe_reads_back_as_itself() -> None:
    recipe = ImageRecipe(224, 224, resize=256, interpolation="bicubic", colour="L", background=0)
    assert parse(recipe.to_bytes()) == recipe
    assert recipe.digest != ImageRecipe(224, 224).digest


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b'{"modality":"audio"}',
        RECIPE.to_bytes().replace(b"bilinear", b"magic"),
        RECIPE.to_bytes().replace(b"24", b"0"),
        RECIPE.to_bytes()[:-1] + b',"extra":1}',
    ],
)
def test_bytes_that_are_no_recipe_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidRecipe):
        parse(data)


@pytest.mark.parametrize("size", [(50, 40), (40, 90), (31, 300), (224, 224), (500, 333)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_shorter_side_and_centre_are_those_of_torchvision(size: tuple[int, int], interpolation: str) -> None:
    image = noise(*size)
    recipe = ImageRecipe(48, 48, resize=56, interpolation=interpolation)
    reference = v2.Compose([v2.Resize(56, v2.InterpolationMode(interpolation)), v2.CenterCrop(48)])
    expected = v2.functional.pil_to_tensor(reference(image)).permute(1, 2, 0)
    assert torch.equal(torch.from_numpy(recipe.decode(encode(image)).copy()), expected)


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 128, (128, 128, 128)),
        ("P", 7, None),
        ("LA", (0, 0), (255, 255, 255)),
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("I;16", 128 * 257, (128, 128, 128)),
        ("I;16", 65535, (255, 255, 255)),
    ],
)
def test_every_mode_comes_out_as_eight_bit_colour(mode: str, value: Any, expected: object) -> None:
    pixels = RECIPE.decode(encode(Image.new(mode, (10, 10), value)))
    assert pixels.shape == (24, 32, 3)
    assert pixels.dtype == np.uint8
    assert expected is None or tuple(pixels[5, 5]) == expected


def test_cmyk_is_read_as_colour() -> None:
    pixels = RECIPE.decode(encode(Image.new("CMYK", (20, 20), (0, 0, 0, 0)), "JPEG"))
    assert pixels.min() > 250


def test_pictures_are_turned_upright_by_their_exif_orientation() -> None:
    image = Image.new("RGB", (40, 20))
    image.paste((255, 0, 0), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter turn clockwise
    pixels = ImageRecipe(40, 20).decode(encode(image, "PNG", exif=exif))
    assert tuple(pixels[5, 10]) == (255, 0, 0)
    assert tuple(pixels[35, 10]) == (0, 0, 0)


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    pixels = RECIPE.decode(encode(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert tuple(pixels[0, 0]) == (255, 0, 0)


def test_one_pixel_is_a_picture() -> None:
    assert RECIPE.decode(encode(Image.new("RGB", (1, 1), "blue"))).tolist()[0][0] == [0, 0, 255]


def test_a_very_long_picture_is_cropped_before_it_is_scaled() -> None:
    image = Image.new("RGB", (1, 60_000), (0, 9, 0))
    assert ImageRecipe(224, 224, resize=256).decode(encode(image)).shape == (224, 224, 3)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello, I am no picture",
        encode(noise(64, 64), "JPEG")[:900],
        encode(noise(64, 64))[:2000],
        b"\xff\xd8\xff",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    ],
)
def test_broken_files_are_called_undecodable(data: bytes) -> None:
    with pytest.raises(UndecodableInput, match="expected a"):
        RECIPE.decode(data)


def test_too_many_pixels_are_refused_from_the_header() -> None:
    with pytest.raises(InputTooLarge, match="900,000,000"):
        RECIPE.decode(announced_png(30_000, 30_000))


def test_a_text_is_the_wrong_modality() -> None:
    with pytest.raises(WrongModality):
        RECIPE.prepare("a text")


def test_prepared_rows_stack_to_the_declared_field() -> None:
    rows = [RECIPE.prepare(encode(noise(30, 30, seed))) for seed in range(3)]
    batch = RECIPE.collate(rows)
    assert batch["pixels"].shape == (3, 24, 32, 3)
    assert RECIPE.fields[0].accepts(batch["pixels"])


def test_a_recipe_that_says_nothing_of_its_crop_keeps_the_digest_of_older_ones() -> None:
    recipe = ImageRecipe(224, 224, 256)
    assert "crop" not in recipe.to_json()
    assert recipe.digest == "sha256:0155f58de983a761d9e57d672d7a23192af23d0f54baf21b5d803b0582520363"
    other = ImageRecipe(224, 224, 256, crop="down")
    assert parse(other.to_bytes()) == other
    for crop in ("nearest", "up", None, 1):
        with pytest.raises(InvalidRecipe):
            parse(canonical_json(other.to_json() | {"crop": crop}))


@pytest.mark.parametrize(("crop", "left"), [("nearest", 2), ("down", 1)])
def test_the_centre_of_an_odd_number_of_spare_pixels_is_where_the_recipe_says(crop: str, left: int) -> None:
    columns = np.repeat(np.arange(7, dtype=np.uint8)[None, :], 7, axis=0) * 30
    buffer = io.BytesIO()
    Image.fromarray(columns).save(buffer, "PNG")
    pixels = ImageRecipe(4, 4, 7, colour="L", crop=crop).decode(buffer.getvalue())
    assert pixels[0, :, 0].tolist() == [30 * (left + step) for step in range(4)]
