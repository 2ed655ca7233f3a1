"""Renders letters from font files: the same pictures wherever the same fonts and Pillow are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFont

from adapters.sources.glyphs.fonts import FontFamily
from adapters.sources.glyphs.letters import LABELS, LETTERS, label_of
from registry.errors import SourceUnavailable

CANVAS = 48
"""Rows and columns of a render, in pixels."""

INK = 40
"""Length of the longer side of the letter in it."""

_SIZE = 96
"""Size that a face is opened at: more than twice the ink, so that scaling down smooths the edges."""


@dataclass(frozen=True, slots=True, eq=False)
class Renders:
    """Letters as drawn, before anything happens to them.

    Attributes:
        pictures: uint8 [N, 48, 48], ink 255 on 0.
        labels: index into ``LABELS``, int64 [N].
        families: index of the family, int64 [N].
    """

    pictures: np.ndarray
    labels: np.ndarray
    families: np.ndarray

    def __len__(self) -> int:
        return len(self.pictures)

    def of(self, families: Sequence[int]) -> "Renders":
        """Return the renders of some families only."""
        chosen = np.isin(self.families, families)
        return Renders(self.pictures[chosen], self.labels[chosen], self.families[chosen])


def letter(font: ImageFont.FreeTypeFont, character: str) -> np.ndarray | None:
    """Render a character, scaled to fill and centred: uint8 [48, 48], ink 255 on 0.

    Proportions are kept: the longer side is 40 pixels. None where the font leaves it blank.
    """
    mask = font.getmask(character, mode="L")
    width, height = mask.size
    image = Image.frombytes("L", (width, height), bytes(mask)) if width and height else Image.new("L", (1, 1))
    box = image.getbbox()
    if box is None:
        return None
    drawn = image.crop(box)
    scale = INK / max(drawn.size)
    size = (max(1, round(drawn.width * scale)), max(1, round(drawn.height * scale)))
    drawn = drawn.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC)
    canvas = Image.new("L", (CANVAS, CANVAS))
    canvas.paste(drawn, ((CANVAS - drawn.width) // 2, (CANVAS - drawn.height) // 2))
    return np.asarray(canvas)


def alphabet(font: ImageFont.FreeTypeFont, characters: str = LETTERS) -> tuple[np.ndarray, np.ndarray]:
    """Render some of ``LETTERS``: pictures, uint8 [N, 48, 48], and label numbers, int64 [N]."""
    drawn = {character: letter(font, character) for character in characters}
    there = {character: picture for character, picture in drawn.items() if picture is not None}
    pictures = np.stack(list(there.values())) if there else np.zeros((0, CANVAS, CANVAS), np.uint8)
    return pictures, np.array([LABELS.index(label_of(character)) for character in there], np.int64)


def render(families: Sequence[FontFamily], folder: Path) -> Renders:
    """Render every letter in every face of some families, numbered in their order.

    Raises:
        SourceUnavailable: a file is no font that FreeType opens.
    """
    pictures, labels, numbers = [], [], []
    for number, family in enumerate(families):
        for face in family.faces:
            # Basic layout: one character needs no shaping, and Raqm is not everywhere.
            try:
                font = ImageFont.truetype(folder / face, _SIZE, layout_engine=ImageFont.Layout.BASIC)
            except OSError as error:
                raise SourceUnavailable(
                    f"expected a font in {folder / face}: {error}; install {family.package} again"
                ) from error
            drawn, named = alphabet(font, LETTERS[:26] if family.capitals else LETTERS)
            pictures.append(drawn)
            labels.append(named)
            numbers.append(np.full(len(drawn), number, np.int64))
    return Renders(np.concatenate(pictures), np.concatenate(labels), np.concatenate(numbers))
