"""Pictures that would take far more work than their pixels tell."""

import io

import numpy as np
import pytest
from PIL import Image

from registry.errors import InputTooLarge, UndecodableInput
from registry.recipe import ImageRecipe
from registry.recipe.effort import MAX_LENGTH, MAX_SCANS

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
