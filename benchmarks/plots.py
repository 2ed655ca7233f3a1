"""Drawings of what was measured, as SVG files in the look of the project's reports."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from adapters.report.drawing import COLOURS, INK, MUTED, Plot, canvas, saved
from benchmarks.contender import MEDIA
from benchmarks.spread import Spread

AT = 32
_BAR = 0.62


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


def _bars(name: str, title: str, spreads: Mapping[str, Spread], line: float | None) -> Plot:
    with canvas(0.5 + 0.32 * len(spreads)) as figure:
        axes = figure.add_subplot()
        names = list(spreads)
        values = [spreads[each].median for each in names]
        below = [spreads[each].median - spreads[each].low for each in names]
        above = [spreads[each].high - spreads[each].median for each in names]
        axes.barh(names, values, height=_BAR, color=[COLOURS[0], *[COLOURS[9]] * (len(names) - 1)])
        axes.errorbar(values, names, xerr=[below, above], fmt="none", ecolor=INK, elinewidth=0.8)
        for each, value in zip(names, values, strict=True):
            axes.annotate(
                f"{value:.1f}", (0, each), (4, 0), textcoords="offset points", va="center", color="white"
            )
        if line is not None:
            axes.axvline(line, color=MUTED, linewidth=1, linestyle="--")
        axes.invert_yaxis()
        axes.set_xlabel(title)
        caption = f"{AT} requests at once; medians of the rounds, whiskers from the smallest to the largest."
        return saved(figure, name, title, caption)


def _latencies(
    name: str, kind: str, servers: list[str], rounds: Mapping[str, list[Mapping[str, float]]]
) -> Plot:
    with canvas(2.4) as figure:
        axes = figure.add_subplot()
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        for server, colour in zip(servers, COLOURS, strict=False):
            _curve(axes, server, kind, rounds, colour)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("requests at once")
        axes.set_ylabel("ms")
        axes.legend()
        title = f"p50 (line) and p99 (dots) by concurrency, {kind}"
        return saved(figure, name, title, "Medians of the rounds, from question to answer.")


def _curve(
    axes: Axes, server: str, kind: str, rounds: Mapping[str, list[Mapping[str, float]]], colour: str
) -> None:
    prefix = f"{server}, {kind}, "
    at = sorted(int(name.removeprefix(prefix)) for name in rounds if name.startswith(prefix))
    for figure, style, label in (("p50_ms", "-", server), ("p99_ms", ":", None)):
        values = [_spread(rounds[f"{prefix}{each}"], figure).median for each in at]
        axes.plot(at, values, style, marker="o", markersize=3, linewidth=1.2, color=colour, label=label)
    axes.set_xticks(at, [str(each) for each in at])


def _write(plot: Plot, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{plot.name}.svg").write_text(plot.svg)
