"""Plots as SVG: one look, equal bytes for equal data, colours that a page can take over.

Text stays text, so that it is sharp, can be searched, and is set in the page's own fonts.
"""

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

INK = "#23272c"
MUTED = "#7c848d"
LINE = "#d5d9dd"
PAPER = "#fefefd"
RIGHT = "#2f6f9f"
WRONG = "#c4502f"
COLOURS = (
    "#4e79a7", "#f28e2b", "#e15759", "#76b7b2", "#59a14f", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#a0a5ab",
)  # fmt: skip
"""Ten colours that can be told apart on light and dark paper: Tableau's."""

WIDTH = 4.7
"""Inches: at 9 points the text is as large as the page's own, on a phone as on a desk."""

_VARIABLES: Mapping[str, str] = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    PAPER: "none",
    RIGHT: "var(--right)",
    WRONG: "var(--wrong)",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
}


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawn figure.

    Attributes:
        name: what its file is called, without ``.svg``.
        title: what it shows, in a few words.
        caption: how to read it, in a sentence.
        svg: the whole file.
    """

    name: str
    title: str
    caption: str
    svg: str

    @property
    def inline(self) -> str:
        """The drawing as it stands in a page: it fills its place and takes the page's colours."""
        text = self.svg[self.svg.index("<svg") :]
        text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
        text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
        text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
        for colour, variable in _VARIABLES.items():
            text = text.replace(colour, variable)
        return text


@contextmanager
def canvas(height: float, width: float = WIDTH) -> Iterator[Figure]:
    """Give a figure in the house's look, in inches; what is drawn in the block is laid out inside it."""
    with rc_context(_STYLE), warnings.catch_warnings():
        # A script that the measuring font lacks is drawn by the reader's own.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        yield Figure(figsize=(width, height), layout="constrained")


def saved(figure: Figure, name: str, title: str, caption: str) -> Plot:
    """Return a figure as SVG; called inside its ``canvas``."""
    stream = io.StringIO()
    FigureCanvasSVG(figure)
    # Ids are hashes with the plot's name for salt: equal in every run, different on one page.
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return Plot(name, title, caption, _own_ids(stream.getvalue(), name))


def short(label: str, length: int = 18) -> str:
    """Return a label that fits on an axis, its beginning and its end: names of one kind begin alike."""
    if len(label) <= length:
        return label
    end = (length - 1) // 2
    return f"{label[: length - 1 - end]}…{label[len(label) - end :]}"


def _own_ids(svg: str, name: str) -> str:
    """Put the plot's name before every id, so that two plots on one page share none."""
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    return svg.replace("url(#", f"url(#{name}-")
