"""The plots of a report; plots without data are omitted."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullFormatter

from adapters.evaluation.evidence import FeatureMap
from adapters.evaluation.measuring import MAX_CONFUSION_LABELS
from adapters.report.drawing import (
    COLOURS,
    INK,
    LINE,
    MUTED,
    RIGHT,
    WRONG,
    Plot,
    canvas,
    saved,
    short,
)
from adapters.report.material import Material
from registry.predictions import Predictions
from registry.statistics import ECE_BINS, Reliability, log_softmax, sigmoid

NUMBERED_LABELS = 14
"""Most labels for which a confusion matrix shows counts."""
NAMED_LABELS = 24
"""Most labels for which its axes show names."""
COLOURED_LABELS = 30
"""Labels with their own colour and marker on the map: ten colours, three markers."""

_HISTOGRAM_BINS = 20
_MARKS = ("o", "s", "^")


def plots(material: Material) -> Iterator[Plot]:
    """Draw all plots of a version for which there is data."""
    baselines = material.manifest.metrics.get("yardsticks")
    if isinstance(baselines, dict):
        yield _baselines(material.manifest.metrics, baselines)
    predictions = material.predictions
    if predictions is not None:
        if not predictions.multilabel and len(material.labels) <= MAX_CONFUSION_LABELS:
            yield _confusion(predictions, material.labels)
        yield _reliability(predictions)
        yield _scores(predictions)
    if material.evidence is not None:
        history = material.evidence.history
        if searched := [step for step in history if {"l2", "left_out_loss"} <= set(step)]:
            yield _search(searched)
        if epochs := [step for step in history if "loss" in step]:
            yield _curves(epochs)
        if material.evidence.map is not None and predictions is not None:
            yield _map(material.evidence.map, predictions, material.labels)


def _baselines(metrics: Mapping[str, object], baselines: Mapping[str, object]) -> Plot:
    rows = [("raw inputs", baselines.get("raw")), ("frozen head", baselines.get("frozen"))]
    bars = [
        (name, _numbers(baseline, ("accuracy", "low", "high")))
        for name, baseline in rows
        if isinstance(baseline, dict)
    ]
    bars.append(("this version", _numbers(metrics, ("accuracy", "accuracy_low", "accuracy_high"))))
    with canvas(0.5 + 0.36 * len(bars)) as figure:
        axes = figure.add_subplot()
        for at, (_, (value, low, high)) in enumerate(bars):
            colour = RIGHT if at == len(bars) - 1 else MUTED
            axes.plot([low, high], [at, at], color=colour, linewidth=2, solid_capstyle="round")
            axes.plot([value], [at], "o", color=colour, markersize=6)
        axes.set_yticks(range(len(bars)), [name for name, _ in bars], color=INK)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(-0.6, len(bars) - 0.4)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel("accuracy on the test examples, with 95 % intervals")
        return saved(
            figure,
            "baselines",
            "Beside two baselines",
            "The raw-input baseline uses no network, the frozen head trains none: a transfer should beat both.",
        )


def _numbers(figures: Mapping[str, object], keys: Sequence[str]) -> list[float]:
    return [float(str(figures[key])) for key in keys]


def _confusion(predictions: Predictions, labels: Sequence[str]) -> Plot:
    count = len(labels)
    answers = predictions.logits.argmax(axis=1)
    pairs = np.bincount(predictions.labels * count + answers, minlength=count**2).reshape(count, count)
    shares = pairs / np.maximum(pairs.sum(axis=1, keepdims=True), 1)
    with canvas(4.5 if count > 6 else 3.6) as figure:
        axes = figure.add_subplot()
        axes.set_aspect("equal")
        axes.set_xlim(-0.5, count - 0.5)
        axes.set_ylim(count - 0.5, -0.5)
        for right, answered in np.argwhere(pairs):
            share = float(shares[right, answered])
            colour = RIGHT if right == answered else WRONG
            corner = (answered - 0.48, right - 0.48)
            axes.add_patch(
                Rectangle(corner, 0.96, 0.96, color=colour, alpha=0.12 + 0.48 * share, linewidth=0)
            )
            if count <= NUMBERED_LABELS:
                size = 8 if pairs.max() < 1000 and count <= 10 else 6
                number = str(pairs[right, answered])
                axes.text(answered, right, number, ha="center", va="center", fontsize=size)
        _name(axes, labels)
        axes.set_xlabel("answered")
        axes.set_ylabel("right")
        for spine in axes.spines.values():
            spine.set_visible(False)
        return saved(
            figure,
            "confusion",
            "Confusion",
            "Rows are true labels, columns predictions; a stronger colour is a larger share of the row.",
        )


def _name(axes: Axes, labels: Sequence[str]) -> None:
    axes.tick_params(length=0)
    if len(labels) > NAMED_LABELS:
        axes.set_xticks([])
        axes.set_yticks([])
        return
    names = [short(label) for label in labels]
    size = 8 if len(labels) <= 16 else 6
    upright = max(map(len, names)) > max(2, 24 // len(labels))
    axes.set_xticks(range(len(labels)), names, rotation=90 if upright else 0, fontsize=size, color=INK)
    axes.set_yticks(range(len(labels)), names, fontsize=size, color=INK)


def _reliability(predictions: Predictions) -> Plot:
    confidence, right = _decisions(predictions)
    found = Reliability.of(confidence, right)
    filled = found.counts > 0
    with canvas(3.4) as figure:
        axes = figure.add_subplot()
        axes.set_aspect("equal")
        axes.plot([0, 1], [0, 1], linestyle=(0, (4, 3)), color=MUTED, linewidth=1)
        middles = (np.arange(ECE_BINS) + 0.5) / ECE_BINS
        bar = 0.9 / ECE_BINS
        axes.bar(middles[filled], found.accuracy[filled], bar, color=RIGHT, alpha=0.3, linewidth=0)
        sizes = 8 + 90 * found.counts[filled] / found.counts.max()
        axes.scatter(
            found.confidence[filled], found.accuracy[filled], s=sizes, color=RIGHT, linewidths=0, zorder=3
        )
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("confidence")
        axes.set_ylabel("share correct")
        return saved(
            figure,
            "reliability",
            "Reliability",
            f"On the dashed line confidence equals accuracy; larger dots are bins with more predictions. "
            f"The expected calibration error is {found.error:.3f}.",
        )


def _decisions(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Return confidence, float64, and correctness, bool, of every prediction, or of every label's decision."""
    if not predictions.multilabel:
        return np.exp(log_softmax(predictions.logits).max(axis=1)), predictions.right()
    scores = sigmoid(predictions.logits)
    right = (predictions.logits > 0) == (predictions.labels > 0)
    return np.maximum(scores, 1 - scores).ravel(), right.ravel()


def _scores(predictions: Predictions) -> Plot:
    if predictions.multilabel:
        scores, there = sigmoid(predictions.logits), predictions.labels > 0
        names, what = ("labels that are there", "labels that are not"), "score of a label"
        caption = "Scores of the labels that an example has, and of those that it does not have."
    else:
        scores, there = _decisions(predictions)
        names, what = ("right predictions", "wrong predictions"), "confidence"
        caption = "Confidence of right and wrong predictions; the two histograms have separate scales."
    with canvas(3.4) as figure:
        both = figure.subplots(2, 1, sharex=True)
        for axes, name, values, colour in zip(
            both, names, (scores[there], scores[~there]), (RIGHT, WRONG), strict=True
        ):
            counts, _ = np.histogram(values, _HISTOGRAM_BINS, (0, 1))
            left = np.arange(_HISTOGRAM_BINS) / _HISTOGRAM_BINS
            axes.bar(
                left, counts, 0.92 / _HISTOGRAM_BINS, align="edge", color=colour, alpha=0.75, linewidth=0
            )
            axes.set_title(f"{len(values):,} {name}", loc="left", color=INK)
            axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
            axes.set_ylim(0, max(1, counts.max()) * 1.05)
            axes.set_xlim(0, 1)
        both[1].set_xlabel(what)
        return saved(figure, "scores", "Scores", caption)


def _search(steps: Sequence[Mapping[str, float]]) -> Plot:
    ordered = sorted(steps, key=lambda step: step["l2"])
    with canvas(2.6) as figure:
        axes = figure.add_subplot()
        penalties = [step["l2"] for step in ordered]
        losses = [step["left_out_loss"] for step in ordered]
        axes.plot(penalties, losses, "-o", color=RIGHT, markersize=4, linewidth=1.5)
        if min(penalties) > 0:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.grid(axis="y")
        axes.set_xlabel("penalty")
        axes.set_ylabel("loss on left-out examples")
        return saved(
            figure,
            "search",
            "Search for the penalty",
            "Each penalty that was tried, and its cross-validated loss.",
        )


def _curves(epochs: Sequence[Mapping[str, float]]) -> Plot:
    accuracy = any("validation_accuracy" in epoch for epoch in epochs)
    with canvas(4.2 if accuracy else 2.6) as figure:
        panels = figure.subplots(1 + accuracy, 1, sharex=True, squeeze=False)[:, 0]
        _curve(panels[0], epochs, "loss", MUTED, "training")
        _curve(panels[0], epochs, "validation_loss", RIGHT, "validation")
        panels[0].set_title("loss", loc="left", color=INK)
        panels[0].legend(loc="upper right", labelcolor=INK)
        if accuracy:
            _curve(panels[1], epochs, "validation_accuracy", RIGHT, "validation")
            panels[1].set_title("accuracy on the validation set", loc="left", color=INK)
        for axes in panels:
            axes.grid(axis="y")
        panels[-1].set_xlabel("epoch")
        panels[-1].xaxis.set_major_locator(MaxNLocator(8, integer=True))
        return saved(
            figure,
            "curves",
            "Learning curves",
            "Overfitting begins where the validation curve turns up while the training curve still falls."
            if any("validation_loss" in epoch for epoch in epochs)
            else "Without a validation set only the training loss is known.",
        )


def _curve(axes: Axes, epochs: Sequence[Mapping[str, float]], key: str, colour: str, name: str) -> None:
    points = [(epoch.get("number", at + 1), epoch[key]) for at, epoch in enumerate(epochs) if key in epoch]
    if points:
        mark = "o" if len(points) < 25 else ""
        axes.plot(
            *zip(*points, strict=True), color=colour, marker=mark, markersize=3, linewidth=1.5, label=name
        )


def _map(found: FeatureMap, predictions: Predictions, labels: Sequence[str]) -> Plot:
    places = {digest: at for at, digest in enumerate(predictions.digests)}
    known = [at for at, item in enumerate(found.items) if item in places]
    rows = np.array([places[found.items[at]] for at in known], np.int64)
    points, right = found.points[known], predictions.right()[rows]
    truth = predictions.labels[rows]
    numbers = np.where(truth.any(axis=1), truth.argmax(axis=1), -1) if predictions.multilabel else truth
    counts = np.bincount(numbers[numbers >= 0], minlength=len(labels))
    shown = np.sort(np.argsort(-counts, kind="stable")[:COLOURED_LABELS])
    shown = shown[counts[shown] > 0]
    others = ~np.isin(numbers, shown)
    columns = max(1, min(5, int(60 / (max((len(short(labels[at], 14)) for at in shown), default=1) + 5))))
    with canvas(3.9 + 0.17 * -(-len(shown) // columns)) as figure:
        axes = figure.add_subplot()
        axes.set_aspect("equal", adjustable="datalim")
        axes.scatter(points[others, 0], points[others, 1], s=12, color=LINE, linewidths=0)
        marks, names = [], []
        for place, at in enumerate(shown):
            here = points[numbers == at]
            mark = _MARKS[place // len(COLOURS) % len(_MARKS)]
            colour, name = COLOURS[place % len(COLOURS)], short(labels[at], 14)
            drawn = axes.scatter(here[:, 0], here[:, 1], s=14, color=colour, marker=mark, linewidths=0)
            marks.append(drawn)
            names.append(name)
        axes.scatter(
            points[~right, 0], points[~right, 1], s=46, facecolors="none", edgecolors=INK, linewidths=0.9
        )
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(False)
        if len(shown):
            # A legend ignores names that begin with an underscore.
            figure.legend(
                marks,
                [f"\u2060{name}" for name in names],
                loc="outside lower center",
                ncols=columns,
                handletextpad=0.2,
                columnspacing=1.2,
                labelcolor=INK,
            )
        return saved(
            figure,
            "map",
            "Map of the features",
            f"{len(known):,} test examples, close where their features are close (t-SNE); wrong predictions are "
            "ringed. The axes and the distances between groups mean nothing.",
        )
