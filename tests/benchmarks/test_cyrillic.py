"""Cyrillic capitals, rendered: what is drawn, in what, and which of it is kept apart."""

from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFont

from adapters.datasets import TEST, TRAIN
from adapters.sources.glyphs.fonts import FOLDER, FontFamily
from adapters.sources.glyphs.letters import LETTERS
from adapters.sources.glyphs.render import letter
from benchmarks.cells import Cell
from benchmarks.cyrillic import CAPITALS, Cyrillic, chosen, draw
from registry.errors import SourceUnavailable

FREE, TESTED = 4, 2
ABSENT = "\U0010ffff"
"""A character that no font has."""


def installed() -> bool:
    try:
        chosen()
    except SourceUnavailable:
        return False
    return True


fonts = pytest.mark.skipif(not installed(), reason="the fonts of benchmarks.cyrillic are not installed")


def test_without_fonts_the_message_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailable, match=r"apt-get install .*fonts-dejavu-core") as caught:
        draw(tmp_path / "pictures", tmp_path)
    assert "fonts-adf-gillius" not in str(caught.value)
    assert not (tmp_path / "pictures").exists()


@fonts
def test_no_family_is_learnt_from_and_tested_on() -> None:
    found = chosen()
    tested = {family.name for family in found if family.held_out}
    learnt = {family.name for family in found if not family.held_out}
    assert (len(learnt), len(tested)) == (20, 7)
    assert not {face for each in found if each.held_out for face in each.faces} & {
        face for each in found if not each.held_out for face in each.faces
    }


@fonts
@pytest.mark.parametrize("family", chosen() if installed() else (), ids=lambda family: family.name)
def test_every_face_draws_every_capital_and_none_as_a_letter_that_the_trunk_learnt(
    family: FontFamily,
) -> None:
    for face in family.faces:
        font = ImageFont.truetype(FOLDER / face, 96, layout_engine=ImageFont.Layout.BASIC)
        drawn = [letter(font, capital) for capital in CAPITALS]
        others = [letter(font, each) for each in (ABSENT, *LETTERS)]
        assert all(each is not None for each in drawn)
        pictures = [each.tobytes() for each in (*drawn, *others) if each is not None]
        assert len({each.tobytes() for each in drawn if each is not None}) == len(CAPITALS)
        assert not set(pictures[: len(drawn)]) & set(pictures[len(drawn) :])


@fonts
def test_equal_fonts_give_equal_pictures(tmp_path: Path) -> None:
    for name in ("one", "other"):
        draw(tmp_path / name, free=FREE, tested=TESTED)
    files = sorted((tmp_path / "one").rglob("*.png"))
    assert len(files) == len(CAPITALS) * (FREE + TESTED)
    for file in files:
        assert file.read_bytes() == (tmp_path / "other" / file.relative_to(tmp_path / "one")).read_bytes()


@fonts
def test_more_shots_hold_fewer_and_all_draws_are_tested_on_the_same(tmp_path: Path) -> None:
    draw(tmp_path / "data" / "cyrillic", free=FREE, tested=TESTED)
    bench = Cyrillic(tmp_path)
    few, more, other = (
        bench.dataset(Cell("cyrillic", "letters", shots, seed)) for shots, seed in ((1, 0), (3, 0), (3, 1))
    )
    assert few.labels == tuple(sorted(CAPITALS))
    assert len(more.index(TRAIN)) == 3 * len(CAPITALS)
    assert set(few.index(TRAIN)) < set(more.index(TRAIN))
    assert set(more.index(TRAIN)) != set(other.index(TRAIN))
    assert np.bincount(few.targets(few.index(TRAIN))).tolist() == [1] * len(CAPITALS)
    assert np.array_equal(few.index(TEST), other.index(TEST))
    assert len(few.index(TEST)) == TESTED * len(CAPITALS)
