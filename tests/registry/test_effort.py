"""Pictures that would take far more work than their pixels tell."""

import io
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from registry.errors import InputTooLarge, UndecodableInput
from registry.recipe import ImageRecipe
from registry.recipe.effort import MAX_LENGTH, MAX_SCANS
from registry.recipe.greys import eight_bits

RECIPE = ImageRecipe(8, 8)


def saved(image: Image.Image, kind: str, **options: bool) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def progressive(more: int) -> bytes:
    """A progressive JPEG file whose last scan comes so many times more."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    data = saved(Image.fromarray(noise), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * more + data[-2:]


def test_a_progressive_picture_is_decoded() -> None:
    assert RECIPE.decode(progressive(0)).shape == (8, 8, 3)


def test_a_picture_of_many_scans_is_refused() -> None:
    with pytest.raises(UndecodableInput, match="scans"):
        RECIPE.decode(progressive(MAX_SCANS))


@pytest.mark.parametrize("size", [(MAX_LENGTH + 1, 1), (1, MAX_LENGTH + 1), (1_000_000, 2)])
def test_a_picture_that_is_a_line_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InputTooLarge, match="side"):
        RECIPE.decode(saved(Image.new("1", size), "PNG"))


def test_the_longest_side_is_decoded() -> None:
    assert RECIPE.decode(saved(Image.new("L", (MAX_LENGTH, 1), 7), "PNG")).max() == 7


def test_transparency_over_many_strips_is_that_of_the_whole() -> None:
    values = np.random.default_rng(1).integers(0, 256, (1201, 1009, 4), np.uint8)
    image = Image.fromarray(values)
    ground = Image.new("RGBA", image.size, (90, 90, 90, 255))
    expected = np.asarray(Image.alpha_composite(ground, image).convert("RGB"))
    recipe = ImageRecipe(1201, 1009, background=90)
    assert np.array_equal(recipe.decode(saved(image, "PNG")), expected)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_greys_over_many_strips_are_scaled_as_one(dtype: type) -> None:
    values: np.ndarray = np.random.default_rng(2).integers(0, 65_536, (1201, 1009)).astype(dtype)
    values[0, 0] = 65_535
    expected = np.clip(values.astype(np.float64) / 257.0 + 0.5, 0, 255).astype(np.uint8)
    recipe = ImageRecipe(1201, 1009, colour="L")
    kind = "PNG" if dtype == np.uint16 else "TIFF"
    assert np.array_equal(recipe.decode(saved(Image.fromarray(values), kind))[..., 0], expected)


def test_deep_greys_take_no_more_memory_than_their_bytes_and_a_few_strips() -> None:
    values = np.zeros((4000, 4000), np.uint16)
    tracemalloc.start()
    try:
        eight_bits(values, 16)
        assert tracemalloc.get_traced_memory()[1] < 2 * values.size + 40 * 2**20
    finally:
        tracemalloc.stop()
