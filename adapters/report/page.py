"""A report as one self-contained HTML page: no scripts, no requests, every text escaped."""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from adapters.evaluation.evidence import Mistake
from adapters.report.drawing import Plot
from adapters.report.material import Material
from registry.manifest import EMBEDDING, Json
from registry.statistics import Interval

MAX_PAIRS = 10
"""Most confused pairs of labels in the list."""

_TILES = (
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("micro_f1", "micro-F1"),
    ("macro_f1", "macro-F1"),
    ("mean_average_precision", "mean average precision"),
    ("auroc", "AUROC"),
    ("ece", "calibration error"),
    ("log_loss", "log loss"),
)
_SHARES = frozenset({"accuracy", "balanced_accuracy"})
_STICKS = (("raw", "Raw inputs, linear model"), ("frozen", "Source untouched, linear head"))


@dataclass(frozen=True, slots=True)
class Tile:
    """A headline metric: its name, its value, and an optional note."""

    name: str
    value: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class BaselineRow:
    """A baseline's row: name, accuracy, interval, the version's lead with its interval, and the conclusion."""

    name: str
    accuracy: str
    interval: str
    lead: str
    lead_interval: str
    verdict: str


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A label's row; undefined metrics are None."""

    label: str
    items: int
    precision: float | None
    recall: float | None
    f1: float | None
    baselines: tuple[float | None, ...]


def page(material: Material, plots: Sequence[Plot]) -> str:
    """Return the HTML page of a version.

    Args:
        material: the report's data.
        plots: its plots.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "bytes": size, "plain": plain, "thumbnail": thumbnail}
    metrics = material.manifest.metrics
    return environment.get_template("page.html").render(
        version=material.version,
        manifest=material.manifest,
        embedding=material.manifest.kind == EMBEDDING,
        registered=f"{material.version.created_at:%Y-%m-%d %H:%M} UTC",
        items=metrics.get("items"),
        basis=basis(metrics),
        tiles=list(tiles(metrics)),
        baselines=list(baselines(metrics)),
        stick_names=[name for key, name in _STICKS if key in _hits(material)],
        rows=list(rows(material)),
        pairs=list(pairs(material)),
        mistakes=() if material.evidence is None else material.evidence.mistakes,
        plots={plot.name: plot for plot in plots},
        # Our own plots, whose texts matplotlib has escaped.
        drawings={plot.name: Markup(plot.inline) for plot in plots},
    )


def tiles(metrics: Mapping[str, Json]) -> Iterator[Tile]:
    """Yield the headline metrics."""
    known = intervals(metrics)
    for key, name in _TILES:
        value = metrics.get(key)
        if not isinstance(value, float):
            continue
        shown = percent if key in _SHARES else _decimal
        interval = known.get(key)
        low, high = metrics.get(f"{key}_low"), metrics.get(f"{key}_high")
        remark = ""
        if interval is not None:
            remark = _range(interval, shown)
        elif isinstance(low, float) and isinstance(high, float):
            remark = f"{percent(low)} to {percent(high)}"
        yield Tile(name, shown(value), remark)


def intervals(metrics: Mapping[str, Json]) -> Mapping[str, Interval]:
    """Return the intervals stored with a version's metrics; older versions have none.

    Raises:
        InvalidValue: a stored value is not an interval.
    """
    found = metrics.get("intervals")
    return {name: Interval.from_json(each) for name, each in found.items()} if isinstance(found, dict) else {}


def basis(metrics: Mapping[str, Json]) -> str:
    """Describe the methods of a version's intervals."""
    accuracy = intervals(metrics).get("accuracy")
    if accuracy is None:
        return "by percentile bootstrap"
    said = "Wilson’s of accuracy, Tango’s of a lead, by bootstrap (BCa) of the rest"
    if accuracy.groups < accuracy.examples:
        said += (
            f"; the items are in {accuracy.groups:,} groups, worth {accuracy.effective:,.0f} independent ones "
            "for the accuracy"
        )
    return said


def _range(interval: Interval, shown: Callable[[float], str]) -> str:
    if not interval.decidable:
        return f"interval not decidable: {interval.reason}"
    return f"{shown(interval.low)} to {shown(interval.high)}"


def _decimal(value: float) -> str:
    return f"{value:.3f}"


def baselines(metrics: Mapping[str, Json]) -> Iterator[BaselineRow]:
    """Yield the baselines' rows."""
    found = metrics.get("yardsticks")
    for key, name in _STICKS:
        baseline = found.get(key) if isinstance(found, dict) else None
        if not isinstance(baseline, dict):
            continue
        low, high, lead, lead_low, lead_high, accuracy = (
            float(str(baseline[each]))
            for each in ("low", "high", "difference", "difference_low", "difference_high", "accuracy")
        )
        verdict = "better" if lead_low > 0 else "worse" if lead_high < 0 else "no difference shown"
        yield BaselineRow(
            name,
            percent(accuracy),
            f"{percent(low)} to {percent(high)}",
            points(lead),
            f"{points(lead_low)} to {points(lead_high)}",
            verdict,
        )


def rows(material: Material) -> Iterator[ReportRow]:
    """Yield each label's metrics."""
    classes = material.manifest.metrics.get("classes")
    if not isinstance(classes, dict):
        return
    hits = _hits(material)
    for at, label in enumerate(material.labels):
        counts = classes.get(label)
        if not isinstance(counts, dict):
            continue
        items, right, answered = (int(str(counts[key])) for key in ("items", "right", "answered"))
        yield ReportRow(
            label,
            items,
            right / answered if answered else None,
            right / items if items else None,
            2 * right / (items + answered) if items + answered else None,
            tuple(hits[key][at] / items if items else None for key, _ in _STICKS if key in hits),
        )


def pairs(material: Material) -> Iterator[tuple[str, str, int]]:
    """Yield the most frequent confusions: true label, predicted label, count."""
    predictions, labels = material.predictions, material.labels
    if predictions is None or predictions.multilabel:
        return
    wrong = ~predictions.right()
    given = predictions.logits.argmax(axis=1)[wrong]
    numbers, counts = np.unique(predictions.labels[wrong] * len(labels) + given, return_counts=True)
    for at in np.argsort(-counts, kind="stable")[:MAX_PAIRS]:
        right, answered = divmod(int(numbers[at]), len(labels))
        yield labels[right], labels[answered], int(counts[at])


def _hits(material: Material) -> Mapping[str, Sequence[int]]:
    """Return each baseline's number of correct predictions per label, if stored."""
    found: dict[str, Sequence[int]] = {}
    for key, details in (material.evidence.baselines if material.evidence else {}).items():
        right = details.get("right")
        if isinstance(right, list) and len(right) == len(material.labels):
            found[key] = [int(str(hits)) for hits in right]
    return found


def percent(share: float | None) -> str:
    """Format a share: ``99.4 %`` with a no-break space; a dash for None."""
    return "–" if share is None else f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def points(difference: float) -> str:
    """Format a difference of shares in signed percentage points: ``+1.2``."""
    signed = f"{100 * difference:+.1f}"
    return "0.0" if signed in ("+0.0", "-0.0") else signed.replace("-", "−")


def size(count: int) -> str:
    """Format a number of bytes."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def plain(value: Json) -> str:
    """Format a setting's value."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(plain(each) for each in value) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{key}: {plain(each)}" for key, each in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def thumbnail(mistake: Mistake) -> str:
    """Return a thumbnail as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(mistake.thumbnail or b'').decode()}"
