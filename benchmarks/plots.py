"""Drawings of what was measured, as SVG files in the look of the project's reports."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from adapters.report.drawing import COLOURS, INK, LINE, MUTED, PAPER, Plot, canvas, saved
from benchmarks.contender import MEDIA
from benchmarks.spread import Spread

AT = 32
_BAR = 0.62
_LOOKS: Mapping[str, dict[str, Any]] = {
    "p50": {"linestyle": "-", "linewidth": 1.2, "marker": "o", "markersize": 3},
    "p99": {"linestyle": ":", "linewidth": 1.2, "marker": "o", "markersize": 3, "markerfacecolor": "none"},
}
_DARK: Mapping[str, str] = {INK: "#e6e8ea", MUTED: "#9aa3ac", LINE: "#363c43", COLOURS[9]: "#666d75"}
"""What stands for ink and for grey on a dark page, as in the reports."""


def draw_serving(document: Mapping[str, Any], folder: Path) -> None:
    """Draw a run of ``benchmarks.serving``: what every server needs for an answer, and how many it gives.

    Args:
        document: what that command writes with ``--json``.
        folder: where the files go; made where it is not there.
    """
    rounds, limits = document["rounds"], document["limits"]
    servers = list(document["resident_bytes"])
    for kind in MEDIA:
        cpu = {name: _spread(rounds[f"{name}, {kind}, {AT}"], "cpu_ms_per_row") for name in servers}
        _write(_bars(f"serving-cpu-{kind}", f"CPU ms for an answer, {kind}", cpu, None), folder)
        rate = {name: _spread(rounds[f"{name}, {kind}, {AT}"], "rows_per_s") for name in servers}
        limit = Spread.of(limits[kind]).median
        _write(_bars(f"serving-rate-{kind}", f"answers a second, {kind}", rate, limit), folder)
        _write(_latencies(f"serving-latency-{kind}", kind, servers, rounds), folder)


def _spread(several: list[Mapping[str, float]], figure: str) -> Spread:
    return Spread.of([each[figure] for each in several])


def _bars(name: str, title: str, spreads: Mapping[str, Spread], limit: float | None) -> Plot:
    with canvas(0.7 + 0.32 * len(spreads)) as figure:
        axes = figure.add_subplot()
        names = list(spreads)
        values = [spreads[each].median for each in names]
        below = [spreads[each].median - spreads[each].low for each in names]
        above = [spreads[each].high - spreads[each].median for each in names]
        axes.barh(names, values, height=_BAR, color=[COLOURS[0], *[COLOURS[9]] * (len(names) - 1)])
        axes.errorbar(values, names, xerr=[below, above], fmt="none", ecolor=INK, elinewidth=0.8)
        # Beyond the axes: whiskers and the limit run through whatever stands inside.
        for each, value in zip(names, values, strict=True):
            place = axes.get_yaxis_transform()
            axes.annotate(f"{value:.1f}", (1.02, each), xycoords=place, annotation_clip=False, va="center")
        if limit is not None:
            line = axes.axvline(limit, color=MUTED, linewidth=1, linestyle="--", label="without a server")
            figure.legend(handles=[line], loc="outside upper right")
        axes.invert_yaxis()
        axes.set_xlabel(title)
        caption = f"{AT} requests at once; medians of the rounds, whiskers from the smallest to the largest."
        return saved(figure, name, title, caption)


def _latencies(
    name: str, kind: str, servers: list[str], rounds: Mapping[str, list[Mapping[str, float]]]
) -> Plot:
    with canvas(2.8) as figure:
        axes = figure.add_subplot()
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        for server, colour in zip(servers, COLOURS, strict=False):
            _curve(axes, server, kind, rounds, colour)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:.10g}")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.grid(axis="y")
        axes.set_xlabel(f"requests at once, {kind}")
        axes.set_ylabel("ms")
        figure.legend(handles=_key(servers), loc="outside upper left", ncols=(len(servers) + 3) // 2)
        title = f"p50 and p99 by concurrency, {kind}"
        return saved(figure, name, title, "Medians of the rounds, from question to answer.")


def _curve(
    axes: Axes, server: str, kind: str, rounds: Mapping[str, list[Mapping[str, float]]], colour: str
) -> None:
    prefix = f"{server}, {kind}, "
    at = sorted(int(name.removeprefix(prefix)) for name in rounds if name.startswith(prefix))
    for quantile, look in _LOOKS.items():
        values = [_spread(rounds[f"{prefix}{each}"], f"{quantile}_ms").median for each in at]
        axes.plot(at, values, color=colour, **look)
    axes.set_xticks(at, [str(each) for each in at])


def _key(servers: list[str]) -> list[Line2D]:
    """Return what a legend is made of: a colour for each server, a look for each quantile."""
    lines = [
        Line2D([], [], color=colour, linewidth=3, label=server)
        for server, colour in zip(servers, COLOURS, strict=False)
    ]
    return [
        *lines,
        *(Line2D([], [], color=MUTED, label=quantile, **look) for quantile, look in _LOOKS.items()),
    ]


def _write(plot: Plot, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{plot.name}.svg").write_text(_in_both_lights(plot.svg))


def _in_both_lights(svg: str) -> str:
    """Return a drawing that follows the page it stands in: ink is light where the page is dark, paper is the page's."""
    for number, light in enumerate(_DARK):
        svg = svg.replace(light, f"var(--c{number})")
    light_ones = " ".join(f"--c{number}: {colour};" for number, colour in enumerate(_DARK))
    dark_ones = " ".join(f"--c{number}: {colour};" for number, colour in enumerate(_DARK.values()))
    style = f"<style>:root {{ {light_ones} }} @media (prefers-color-scheme: dark) {{ :root {{ {dark_ones} }} }}</style>"
    return svg.replace(PAPER, "none").replace("<defs>", f"{style}<defs>", 1)
