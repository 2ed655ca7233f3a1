"""Handwritten digits in four shapes, and three trunks to carry over to them: letters, and two controls."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.torch import save

from adapters.datasets import TEST, TRAIN, Dataset, load
from adapters.datasets.examples import digits, grey_png
from adapters.sources.bundled import GlyphSource, glyph_source
from adapters.sources.glyphs.card import CARD, WEIGHTS, Card
from adapters.sources.glyphs.fonts import FontFamily
from adapters.sources.glyphs.render import Renders, render
from adapters.sources.glyphs.train import Lessons, train
from adapters.sources.stages import Stages
from benchmarks.cells import Cell
from benchmarks.whole import whole
from registry.digests import Digest
from registry.progress import SILENT

HELD_OUT = 900
"""Digits that are tested on; shots are drawn from the others."""

_FACES = (
    ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique"),
    ("DejaVuSansMono", "DejaVuSansMono-Bold"),
    ("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic"),
    ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic"),
    ("cmr10", "cmb10", "cmti10"),
    ("cmss10",),
    ("cmtt10",),
)
_COPIES = 20
"""Each render is there so often, under labels drawn independently: no picture says anything about its label."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be learnt of handwritten digits.

    Attributes:
        picture: from a digit's picture, uint8 [8, 8], to the task's.
        label: from a digit, ``"0"`` to ``"9"``, to its label.
    """

    picture: Callable[[np.ndarray], np.ndarray] = np.asarray
    label: Callable[[str], str] = str


TASKS: Mapping[str, Task] = {
    "digits": Task(),
    "even": Task(label=lambda digit: "odd" if int(digit) % 2 else "even"),
    "inverted": Task(picture=lambda picture: 255 - picture),
    "rotated": Task(picture=lambda picture: np.rot90(picture).copy()),
}
TRUNKS = ("letters", "shuffled", "random")


@dataclass(frozen=True, kw_only=True)
class Untrained(GlyphSource):
    """The glyph network with random weights in place of the pretrained ones.

    Attributes:
        draw: which ones.
    """

    draw: int

    def load(self, seed: int | None = None) -> Stages:
        """Return the network; without a seed, with this source's own random weights."""
        return super().load(1000 + self.draw if seed is None else seed)


class Bench:
    """Data and trunks, made on demand in a folder.

    Args:
        folder: where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._data = cache(self._load)

    def dataset(self, cell: Cell) -> Dataset:
        """Return a task's items: so many shots of each digit to learn from, 900 others to test on."""
        data = self._data(cell.task)
        names = [Path(item.origin).name for item in data.items]
        digit = np.array([int(name[0]) for name in names])
        number = np.array([int(name[2:6]) for name in names])
        tested = np.random.default_rng(7).permutation(len(digits()))[number] < HELD_OUT
        # The rank of a picture is drawn for its number, so that all tasks draw the same digits.
        rank = np.array([np.random.default_rng([cell.seed, at]).random() for at in number])
        order = np.argsort(rank, kind="stable")
        free = order[~tested[order]]
        drawn = np.concatenate([free[digit[free] == each][: cell.shots] for each in range(10)])
        return data.divided({TRAIN: np.sort(drawn), TEST: np.flatnonzero(tested)})

    def source(self, cell: Cell) -> GlyphSource:
        """Return a cell's trunk."""
        letters = glyph_source()
        if cell.trunk == "letters":
            return letters
        if cell.trunk == "shuffled":
            return glyph_source(self._shuffled())
        facts = {each.name: getattr(letters, each.name) for each in fields(letters)}
        return Untrained(**facts, draw=cell.seed)

    def _load(self, task: str) -> Dataset:
        folder = whole(self._folder / "data" / task, partial(_write, task=TASKS[task]))
        return load(folder, glyph_source().recipe)

    def _shuffled(self) -> Path:
        return whole(self._folder / "shuffled", _train_on_nothing)


def _train_on_nothing(folder: Path) -> None:
    """Train letters under labels that mean nothing, with the project's own trainer."""
    import matplotlib

    names = [tuple(f"{face}.ttf" for face in faces) for faces in _FACES]
    families = [FontFamily(each[0], each, False, "matplotlib", False) for each in names]
    drawn = render(families, Path(matplotlib.get_data_path()) / "fonts" / "ttf")
    random = np.random.default_rng(0)
    labels = np.concatenate([random.permutation(drawn.labels) for _ in range(_COPIES)])
    pictures = np.tile(drawn.pictures, (_COPIES, 1, 1))
    renders = Renders(pictures, labels, np.tile(drawn.families, _COPIES))
    weights = save(train(renders, Lessons(steps=400, batch_size=64), SILENT).state_dict())
    folder.mkdir()
    (folder / WEIGHTS).write_bytes(weights)
    card = replace(Card.read(glyph_source().folder), weights=Digest.of(weights))
    (folder / CARD).write_bytes(card.to_bytes())


def _write(folder: Path, task: Task) -> None:
    """Write the digits of a task as PNG files, named by digit and number, into a folder for each label."""
    for number, row in enumerate(digits()):
        assert isinstance(row.content, bytes) and isinstance(row.label, str)
        picture = np.asarray(Image.open(io.BytesIO(row.content)))
        place = folder / task.label(row.label)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{row.label}-{number:04d}.png").write_bytes(grey_png(task.picture(picture)))
