import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageFont
from safetensors.torch import load_file

from adapters.sources import providers
from adapters.sources.bundled import GLYPHS, glyph_source
from adapters.sources.glyphs import train
from adapters.sources.glyphs.card import CARD, SKETCH, WEIGHTS, Card
from adapters.sources.glyphs.fonts import FontFamily, Package, families, pinned
from adapters.sources.glyphs.handwriting import Hand, write
from adapters.sources.glyphs.letters import LABELS, LETTERS, label_of
from adapters.sources.glyphs.network import GlyphNet
from adapters.sources.glyphs.render import CANVAS, INK, Renders, alphabet, letter, render
from adapters.sources.source import Source
from registry.digests import Digest
from registry.errors import SourceUnavailable, UnknownSource
from registry.progress import SILENT
from registry.recipe import ImageRecipe
from tests.contracts.source import SourceContract

FACE = "builtin.ttf"


@pytest.fixture(scope="module")
def font() -> ImageFont.FreeTypeFont:
    """The font that Pillow carries: the packages' fonts need not be on this machine."""
    loaded = ImageFont.load_default(96)
    assert isinstance(loaded, ImageFont.FreeTypeFont)
    return loaded


@pytest.fixture(scope="module")
def fonts(font: ImageFont.FreeTypeFont, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fonts")
    (folder / FACE).write_bytes(font.font_bytes)
    return folder


def package(*held_out: bool) -> Package:
    found = tuple(
        FontFamily(f"Builtin {number}", (FACE,), capitals=False, package="fonts-builtin", held_out=held)
        for number, held in enumerate(held_out)
    )
    return Package("fonts-builtin", "1", "OFL-1.1", found)


class TestGlyphSource(SourceContract):
    @pytest.fixture
    def source(self) -> Source:
        return providers.find("bundled:glyphs")


def test_the_weights_are_those_of_the_card_and_small() -> None:
    card = Card.read(GLYPHS)
    data = (GLYPHS / WEIGHTS).read_bytes()
    assert Digest.of(data) == card.weights
    assert len(data) < 1_000_000
    assert card.labels == LABELS
    assert card.licence == "Apache-2.0"


def test_the_card_names_the_pinned_fonts_with_their_licences() -> None:
    listed = {(font["package"], font["version"], font["licence"]) for font in _fonts()}
    assert listed == {(package.name, package.version, package.licence) for package in pinned()}
    held_out = {family["name"] for font in _fonts() for family in font["families"] if family["held_out"]}
    assert held_out == set(json.loads((GLYPHS / CARD).read_bytes())["accuracy"]["families"])
    assert 10 <= len(held_out) <= 20


def _fonts() -> list[dict[str, Any]]:
    fonts: list[dict[str, Any]] = json.loads((GLYPHS / CARD).read_bytes())["fonts"]
    return fonts


def test_there_is_no_digit_among_the_labels() -> None:
    assert all(label.isalpha() for label in LABELS)
    assert [label_of(each) for each in "OoIlZzaA"] == ["O", "O", "I", "I", "Z", "Z", "a", "A"]
    assert {label_of(each) for each in LETTERS} == set(LABELS)


def test_reads_letters_of_a_typeface_it_may_never_have_seen(font: ImageFont.FreeTypeFont) -> None:
    source = glyph_source()
    recipe = source.recipe
    assert isinstance(recipe, ImageRecipe)
    pictures, labels = alphabet(font)
    pixels = np.stack([recipe.convert(Image.fromarray(255 - picture)) for picture in pictures])
    with torch.no_grad():
        answers = source.load().logits(torch.from_numpy(pixels)).argmax(1).numpy()
    assert (answers == labels).mean() > 0.85


def test_stages_answer_as_the_network_does() -> None:
    source = glyph_source()
    network = GlyphNet(len(LABELS)).eval()
    network.load_state_dict(load_file(GLYPHS / WEIGHTS))
    pixels = torch.randint(
        0, 256, (5, 16, 16, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(2)
    )
    with torch.no_grad():
        torch.testing.assert_close(source.load().logits(pixels), network(train.normalise()(pixels)))


def test_an_unknown_bundled_source_is_refused() -> None:
    with pytest.raises(UnknownSource, match="expected bundled:glyphs or bundled:minilm, got 'bundled:glyph'"):
        providers.find("bundled:glyph")


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / CARD).write_bytes((GLYPHS / CARD).read_bytes())
    source = glyph_source(tmp_path)
    assert not source.weights_at_hand()
    with pytest.raises(SourceUnavailable, match=WEIGHTS):
        source.load()
    data = bytearray((GLYPHS / WEIGHTS).read_bytes())
    data[-1] ^= 1
    (tmp_path / WEIGHTS).write_bytes(data)
    assert source.weights_at_hand()
    with pytest.raises(SourceUnavailable, match="make glyphs"):
        source.load()
    assert source.load(seed=1).features_dim == source.dimension


@pytest.mark.parametrize("content", [None, b"{", b"[]", b'{"task": "letters"}'])
def test_a_missing_or_broken_card_is_refused(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / CARD).write_bytes(content)
    with pytest.raises(SourceUnavailable, match="card"):
        glyph_source(tmp_path)


def test_a_letter_fills_its_canvas_and_keeps_its_proportions(font: ImageFont.FreeTypeFont) -> None:
    for character in "lMo":
        picture = letter(font, character)
        assert picture is not None
        assert picture.shape == (CANVAS, CANVAS) and picture.dtype == np.uint8
        image = Image.fromarray(picture)
        left, top, right, bottom = image.getbbox() or (0, 0, 0, 0)
        assert max(right - left, bottom - top) == INK
    assert letter(font, " ") is None


def test_rendering_and_handwriting_are_the_same_every_time(fonts: Path) -> None:
    found = families([package(False)], fonts)
    first, again = render(found, fonts), render(found, fonts)
    assert len(first) == len(LETTERS)
    assert np.array_equal(first.pictures, again.pictures)

    def written(seed: int) -> torch.Tensor:
        return write(torch.from_numpy(first.pictures), torch.Generator().manual_seed(seed))

    pixels = written(1)
    assert pixels.shape == (52, 16, 16, 1) and pixels.dtype == torch.uint8
    assert torch.equal(pixels, written(1))
    assert not torch.equal(pixels, written(2))


def test_a_still_hand_leaves_dark_ink_on_light_paper(font: ImageFont.FreeTypeFont) -> None:
    still = Hand(turn=0, slant=0, width=(0, 0), height=(0, 0), shift=0, wobble=0, noise=0)
    pictures, _ = alphabet(font, "O")
    pixels = write(torch.from_numpy(pictures), torch.Generator().manual_seed(0), still)[0, :, :, 0].float()
    rim = torch.cat([pixels[0], pixels[-1]])
    assert rim.mean() > 200
    assert pixels.min() < 130
    assert pixels[6:10, 6:10].mean() > 150


def test_a_family_of_capitals_has_no_small_letters(fonts: Path) -> None:
    family = FontFamily("Builtin", (FACE,), capitals=True, package="fonts-builtin", held_out=False)
    assert set(render([family], fonts).labels) == set(range(26))


def test_missing_fonts_are_told_with_the_command_that_installs_them(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        train.main, ["--fonts", str(tmp_path), "--output", str(tmp_path / "out"), "--steps", "2"]
    )
    assert result.exit_code == 1
    assert "apt-get install --no-install-recommends fonts-adf-gillius" in result.output
    assert not (tmp_path / "out").exists()


def test_trains_measures_and_writes_weights_that_load(fonts: Path, tmp_path: Path) -> None:
    lessons = train.Lessons(steps=3, batch_size=16, threads=1)
    card = train.make([package(False, True)], lessons, fonts, tmp_path, SILENT)
    again = train.make([package(False, True)], lessons, fonts, tmp_path / "again", SILENT)
    assert card.weights == again.weights == Digest.of((tmp_path / WEIGHTS).read_bytes())
    assert Card.read(tmp_path) == card
    assert list(cast("dict[str, float]", card.accuracy["families"])) == ["Builtin 1"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [CARD, SKETCH, WEIGHTS]
    stages = glyph_source(tmp_path).load()
    assert stages.names == ("stem", "block1", "block2", "block3", "pool")


def test_an_interrupted_training_leaves_what_was_there(
    fonts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / WEIGHTS).write_bytes(b"old")
    monkeypatch.setattr(train, "accuracy", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        train.make([package(False)], train.Lessons(steps=2, batch_size=4, threads=1), fonts, tmp_path, SILENT)
    assert (tmp_path / WEIGHTS).read_bytes() == b"old"


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_training_learns(font: ImageFont.FreeTypeFont) -> None:
    pictures, labels = alphabet(font, "OXT")
    renders = Renders(pictures, labels, np.zeros(len(labels), np.int64))
    torch.set_num_threads(1)
    network = train.train(renders, train.Lessons(steps=40, batch_size=32, threads=1), SILENT)
    found = train.accuracy(network, renders, package(False).families, seed=0)
    assert found["all"] > 0.6


def test_the_human_card_names_every_package_and_the_accuracy() -> None:
    text = Path("docs/glyphs.md").read_text()
    for package in pinned():
        assert f"| {package.name} | {package.version} | {package.licence} |" in text
    card = Card.read(GLYPHS)
    assert f"{float(str(card.accuracy['all'])):.1%}".replace("%", " %") in text
    assert card.weights in text
