"""Cyrillic capitals that Latin does not have, printed in many fonts and written by hand: 19 labels.

The fonts are pinned ones, from which ``bundled:glyphs`` learnt Latin letters. A family that it never saw is tested
on, and no head learns from it either.
"""

from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import ImageFont

from adapters.datasets import TEST, TRAIN, Dataset, load
from adapters.datasets.examples import grey_png
from adapters.sources.bundled import GlyphSource, glyph_source
from adapters.sources.glyphs.fonts import FOLDER, FontFamily, families, pinned
from adapters.sources.glyphs.handwriting import write
from adapters.sources.glyphs.render import letter
from benchmarks.cells import Cell
from benchmarks.whole import whole

CAPITALS = "БГДЖЗИЙЛПФЦЧШЩЪЫЭЮЯ"
"""Of the 33 of Russian. Left out are those that look Latin: a capital, one with dots (Ё), or a small letter (Ь)."""

FREE, TESTED = 200, 100
"""Pictures of each capital that shots are drawn from, and that are tested on."""

_FAMILIES = (
    "Anonymous Pro",
    "Caliban",
    "Cantarell",
    "Carlito",
    "Caslon",
    "Comfortaa",
    "Cupola",
    "DejaVu Sans",
    "DejaVu Sans Mono",
    "DejaVu Serif",
    "GNUTypewriter",
    "Hack",
    "Jura",
    "Lato",
    "Linux Biolinum O",
    "Linux Libertine Display O",
    "Linux Libertine O",
    "Manrope",
    "Open Sans",
    "Open Sans Condensed",
    "Play",
    "Roboto Slab",
    "Steve",
    "Tuffy",
    "Vollkorn",
    "Yanone Kaffeesatz",
    "okolaks",
)
"""Pinned families, every face of which draws every one of these capitals."""

_SIZE = 96
"""Size that a face is opened at, as for the trunk's letters."""


class Cyrillic:
    """Data, made on demand in a folder, and the trunk to carry over to them.

    Args:
        folder: where they are kept.
        fonts: where Debian's packages put fonts.
    """

    def __init__(self, folder: Path, fonts: Path = FOLDER) -> None:
        self._folder = folder / "data" / "cyrillic"
        self._fonts = fonts

    def dataset(self, cell: Cell) -> Dataset:
        """Return so many shots of each capital to learn from, and everything that is tested on.

        Raises:
            SourceUnavailable: a font is not installed; the message has the command that installs it.
        """
        data = self._data
        tested = np.array([Path(item.origin).name.startswith(TEST) for item in data.items])
        free = np.random.default_rng([cell.seed]).permutation(np.flatnonzero(~tested))
        labels = data.targets(free)
        drawn = np.concatenate([free[labels == each][: cell.shots] for each in range(len(CAPITALS))])
        return data.divided({TRAIN: np.sort(drawn), TEST: np.flatnonzero(tested)})

    def source(self, _: Cell) -> GlyphSource:
        """Return the trunk."""
        return glyph_source()

    @cached_property
    def _data(self) -> Dataset:
        folder = whole(self._folder, lambda place: draw(place, self._fonts))
        return load(folder, glyph_source().recipe)


def chosen(fonts: Path = FOLDER) -> tuple[FontFamily, ...]:
    """Return the families that the capitals are rendered from; those that are ``held_out`` are tested on.

    Raises:
        SourceUnavailable: one is not installed; the message has the command that installs it.
    """
    packages = [
        package for package in pinned() if any(family.name in _FAMILIES for family in package.families)
    ]
    return tuple(family for family in families(packages, fonts) if family.name in _FAMILIES)


def draw(folder: Path, fonts: Path = FOLDER, free: int = FREE, tested: int = TESTED) -> None:
    """Write so many pictures of each capital, PNG files named by part and number, into a folder for each.

    Families are there equally often. The hand is the one that the trunk learnt to read, drawn anew for each
    picture. Equal fonts give equal files.

    Raises:
        SourceUnavailable: a font is not installed.
    """
    found = chosen(fonts)
    for seed, (part, count) in enumerate(((TRAIN, free), (TEST, tested))):
        known = [family for family in found if family.held_out == (part == TEST)]
        random, hand = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        for capital in CAPITALS:
            drawn = [
                _printed(fonts / random.choice(known[at % len(known)].faces), capital) for at in range(count)
            ]
            place = folder / capital
            place.mkdir(parents=True, exist_ok=True)
            for number, pixels in enumerate(write(torch.from_numpy(np.stack(drawn)), hand).numpy()):
                (place / f"{part}-{number:04d}.png").write_bytes(grey_png(pixels[..., 0]))


@cache
def _printed(face: Path, capital: str) -> np.ndarray:
    """Render a capital in a face: uint8 [48, 48], ink 255 on 0."""
    picture = letter(ImageFont.truetype(face, _SIZE, layout_engine=ImageFont.Layout.BASIC), capital)
    assert picture is not None, (face, capital)
    return picture
