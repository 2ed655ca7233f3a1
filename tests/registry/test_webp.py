"""The size of a WebP file, from its first bytes."""

import io
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from registry.errors import InputTooLarge, UndecodableInput
from registry.recipe import ImageRecipe
from registry.recipe.webp import size_of


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (300, 7), (640, 480)])
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {"lossless": True}),
        ("RGB", {"quality": 50}),
        ("RGBA", {"quality": 50}),
        ("RGBA", {"lossless": True}),
    ],
)
def test_it_is_what_pillow_says(size: tuple[int, int], mode: str, options: dict[str, int]) -> None:
    stream = io.BytesIO()
    Image.new(mode, size, 3).save(stream, "WEBP", **options)
    assert size_of(stream.getvalue()) == size


def test_an_animation_has_the_size_of_its_canvas() -> None:
    stream = io.BytesIO()
    frames = [Image.new("RGB", (30, 20), colour) for colour in ("red", "blue")]
    frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:])
    assert size_of(stream.getvalue()) == (30, 20)


def canvas(width: int, height: int) -> bytes:
    """A file of a few bytes that announces a canvas."""
    payload = struct.pack("<I", 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", 10) + payload
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def test_a_large_canvas_is_refused_before_it_takes_memory() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InputTooLarge, match="16383 x 16383"):
            ImageRecipe(8, 8).decode(canvas(16383, 16383))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=40))
def test_whatever_stands_there_is_a_size_or_none(data: bytes) -> None:
    for head in (
        data,
        b"RIFF0000WEBP" + data,
        b"RIFF0000WEBPVP8L0000" + data,
        b"RIFF0000WEBPVP8 0000" + data,
    ):
        found = size_of(head)
        assert found is None or min(found) >= 0


def test_a_size_of_nothing_is_no_picture() -> None:
    with pytest.raises(UndecodableInput):
        ImageRecipe(8, 8).decode(b"RIFF\x1a\0\0\0WEBPVP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a\0\0\0\0")
