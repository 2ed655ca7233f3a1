"""Plots as SVG: one style, equal bytes for equal data, colours that a page can set.

Text stays text, so it is sharp and searchable, and uses the page's fonts.
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
"""Tableau's ten colours, distinguishable on light and dark backgrounds."""

WIDTH = 4.7
"""Width in inches: text of 9 points then has the size of the page's text, on a phone and on a desktop."""

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
        name: its file's name, without ``.svg``.
        title: its title.
        caption: an explanation in one sentence.
        svg: the complete file.
    """

    name: str
    title: str
    caption: str
    svg: str

    @property
    def inline(self) -> str:
        """The SVG for a page: it fills its container and uses the page's colours."""
        text = self.svg[self.svg.index("<svg") :]
        text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
        text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
        text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
        for colour, variable in _VARIABLES.items():
            text = text.replace(colour, variable)
        return text


@contextmanager
def canvas(height: float, width: float = WIDTH) -> Iterator[Figure]:
    """Return a matplotlib figure in the shared style, with its size in inches, for drawing in the block."""
    with rc_context(_STYLE), warnings.catch_warnings():
        # Characters missing in the measuring font are drawn with the reader's font.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        yield Figure(figsize=(width, height), layout="constrained")


def saved(figure: Figure, name: str, title: str, caption: str) -> Plot:
    """Return a figure as SVG; called inside its ``canvas``."""
    stream = io.StringIO()
    FigureCanvasSVG(figure)
    # Ids are hashes salted with the plot's name: equal in every run, unique on a page.
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return Plot(name, title, caption, _own_ids(stream.getvalue(), name))


def short(label: str, length: int = 18) -> str:
    """Shorten a label for an axis to its beginning and end: similar names often begin alike."""
    if len(label) <= length:
        return label
    end = (length - 1) // 2
    return f"{label[: length - 1 - end]}…{label[len(label) - end :]}"


def _own_ids(svg: str, name: str) -> str:
    """Prefix every id with the plot's name, so that ids are unique on a page."""
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    return svg.replace("url(#", f"url(#{name}-")
