"""Measurements of a source and a dataset before training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TypeVar

import numpy as np

from adapters.advise.crossval import MAX_ROWS, LeftOut, left_out, sample
from adapters.advise.curve import Curve, curve
from adapters.advise.intervals import groups, removed
from adapters.advise.logme import logme
from adapters.advise.trial import predicted
from adapters.datasets.dataset import TRAIN, VALIDATION, Dataset
from adapters.evaluation.raw import raw_inputs
from adapters.sources.sketch import FeatureSketch
from adapters.sources.source import Source
from adapters.sources.stages import Stages
from adapters.techniques import Context, technique
from registry.errors import DatasetError
from registry.manifest import MULTILABEL
from registry.progress import SILENT
from registry.statistics.interval import Interval
from registry.statistics.share import share

CONTROLS = (1_000_003, 1_000_033, 1_000_037)
"""Seeds of the random weights that the source is compared with; three, because one may be lucky."""

CONTROL_ROWS = 500
"""Items that the source is compared with random weights on, at most: each costs three passes of the network."""

MAX_WORDS = 4096
"""Most frequent words that texts are told apart by where no network reads them."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Cut:
    """The expected accuracy of a head on one stage's features.

    Attributes:
        name: the stage's.
        boundary: how many stages run below the head.
        dimension: length of a feature vector.
        evidence: LogME, in nats an item.
        accuracy: on items left out.
        lead: accuracy above that of the last cut, on the same items.
    """

    name: str
    boundary: int
    dimension: int
    evidence: float
    accuracy: Interval
    lead: Interval


@dataclass(frozen=True, slots=True)
class Baseline:
    """A baseline without transfer, compared with the source's last cut.

    Attributes:
        accuracy: on items left out; of several, the best one's.
        lead: accuracy of the last cut above it, on the same items.
        removed: share of its squared error that the last cut removes; below 0 where it adds some. Squared error
            sees more than right and wrong, so that few items suffice.
    """

    accuracy: Interval
    lead: Interval
    removed: Interval


@dataclass(frozen=True, slots=True)
class Measurements:
    """The measurements of a source and a dataset.

    Attributes:
        source: the source's spec.
        data: the dataset's name.
        modality: ``image`` or ``text``.
        items: labelled items to learn from.
        classes: labels.
        rarest: items of the rarest label.
        typical: median number of items of a label.
        judged: items that were left out one by one; 0 where a class has a single item, which leaves nothing to
            learn it from: then there are no cuts, no baselines and no curve.
        cuts: from the input on; those of stages that hold layers, and the last.
        depths: how many stages with layers there are to retrain.
        layered: whether the network normalises layers (transformers, ConvNeXt) rather than batches.
        raw: the same head on raw inputs: pixels, or words by TF-IDF.
        random: the same head on the same network with random weights.
        zero_shot: accuracy of the source's own answers, where its labels cover the dataset's.
        curve: of the last cut.
        distance: proxy A-distance to the source's stored sketch, 0 to 2, or None where it stored none.
        seconds: by what was measured.
    """

    source: str
    data: str
    modality: str
    items: int
    classes: int
    rarest: int
    typical: float
    judged: int
    cuts: tuple[Cut, ...]
    depths: int
    layered: bool
    raw: Baseline | None
    random: Baseline | None
    zero_shot: Interval | None
    curve: Curve | None
    distance: float | None
    seconds: dict[str, float]

    @property
    def last(self) -> Cut | None:
        """The cut of a plain new head."""
        return self.cuts[-1] if self.cuts else None

    @property
    def best(self) -> Cut | None:
        """The cut with the most accurate head; of equal ones the last."""
        return max(reversed(self.cuts), key=lambda cut: cut.accuracy.value) if self.cuts else None


def measure(source: Source, dataset: Dataset, context: Context) -> Measurements:
    """Measure a source on a dataset's training and validation sets; the test set is not used.

    Raises:
        DatasetError: the items are not labelled with one label each, or with fewer than two labels.
        SourceUnavailable: the source's weights are not on this machine.
    """
    _check(dataset)
    clock = _Clock(context.clock)
    index = dataset.index(TRAIN, VALIDATION)
    counts = np.bincount(dataset.targets(index), minlength=len(dataset.labels))
    counts = counts[counts > 0]
    stages = clock.time("source", source.load)
    quiet = replace(context, progress=SILENT)
    with context.progress.step("measuring", 5) as step:
        zero_shot = clock.time("zero-shot", lambda: _zero_shot(source, dataset, index, quiet))
        step.advance(1, "features")
        boundaries = _boundaries(stages)
        chosen = index[sample(dataset.targets(index), MAX_ROWS)] if counts.min() > 1 else index[:0]
        targets, labels = dataset.targets(chosen), len(dataset.labels)
        together = groups(dataset, chosen)
        cuts: tuple[Cut, ...] = ()
        raw = random = curved = distance = None
        if len(chosen):
            rows = clock.time("features", lambda: quiet.taps(stages, boundaries, dataset, chosen))
            step.advance(1, "heads")
            answers = clock.time(
                "heads", lambda: {at: left_out(rows[at], targets, labels, together) for at in boundaries}
            )
            last = answers[boundaries[-1]]
            cuts = clock.time("evidence", lambda: _cuts(stages, rows, answers, targets, labels))
            step.advance(1, "baselines")
            raw = clock.time("raw inputs", lambda: _raw(dataset, chosen, last))
            random = clock.time(
                "random weights",
                lambda: _random(source, boundaries[-1], dataset, chosen, rows[boundaries[-1]], quiet),
            )
            step.advance(1, "learning curve")
            curved = clock.time(
                "learning curve",
                lambda: curve(rows[boundaries[-1]], targets, labels, context.seed, together),
            )
            distance = _distance(source, rows[boundaries[-1]])
            step.advance(1)
    return Measurements(
        source=source.spec,
        data=dataset.name,
        modality=source.modality,
        items=len(index),
        classes=len(dataset.labels),
        rarest=int(counts.min()),
        typical=float(median(counts.tolist())),
        judged=len(chosen),
        cuts=cuts,
        depths=len(stages.depths()),
        layered=any(type(module).__name__ == "LayerNorm" for module in stages.modules()),
        raw=raw,
        random=random,
        zero_shot=zero_shot,
        curve=curved,
        distance=distance,
        seconds=clock.seconds,
    )


class _Clock:
    """Seconds spent on each measurement.

    Args:
        clock: returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = {}

    def time(self, name: str, work: Callable[[], _T]) -> _T:
        """Run a function and record its duration."""
        start = self._clock()
        done = work()
        self.seconds[name] = self._clock() - start
        return done


def _check(dataset: Dataset) -> None:
    if dataset.kind == MULTILABEL:
        raise DatasetError(
            f"advice is for items with one label each; those of {dataset.name} have several: try 'frozen' first"
        )
    if len(dataset.labels) < 2:
        raise DatasetError(
            f"advice is about telling labels apart and needs two or more; {dataset.name} has {len(dataset.labels)}"
        )


def _boundaries(stages: Stages) -> list[int]:
    """Return the boundaries above each stage that holds layers, and the end."""
    above = sorted(at + 1 for at in stages.depths())
    # If only pooling follows the topmost layers, the end represents them.
    return [*above[:-1], len(stages)]


def _cuts(
    stages: Stages,
    rows: dict[int, np.ndarray],
    answers: dict[int, LeftOut],
    targets: np.ndarray,
    labels: int,
) -> tuple[Cut, ...]:
    last = answers[max(answers)]
    return tuple(
        Cut(
            name=stages.names[at - 1],
            boundary=at,
            dimension=rows[at].shape[1],
            evidence=logme(rows[at], targets, labels),
            accuracy=answers[at].accuracy,
            lead=answers[at].lead(last),
        )
        for at in sorted(rows)
    )


def _raw(dataset: Dataset, chosen: np.ndarray, last: LeftOut) -> Baseline:
    inputs = raw_inputs(dataset, chosen)
    rows = inputs if isinstance(inputs, np.ndarray) else _words(inputs)
    return _baseline(left_out(rows, last.targets, last.scores.shape[1], last.groups), last)


def _words(texts: Sequence[str]) -> np.ndarray:
    """Return TF-IDF of single words and pairs of them, float32 [N, at most 4096]."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(
        ngram_range=(1, 2), max_features=MAX_WORDS, sublinear_tf=True, token_pattern=r"\S+", dtype=np.float32
    )
    rows: np.ndarray = vectors.fit_transform(list(texts)).toarray()
    return rows


def _random(
    source: Source, boundary: int, dataset: Dataset, chosen: np.ndarray, own: np.ndarray, context: Context
) -> Baseline:
    """Compare with the best of several draws of random weights, on as many items as that is worth."""
    labels = len(dataset.labels)
    some = sample(dataset.targets(chosen), CONTROL_ROWS)
    targets = dataset.targets(chosen[some])
    together = groups(dataset, chosen[some])
    mine = left_out(own[some], targets, labels, together)
    found = []
    for seed in CONTROLS:
        rows = context.taps(source.load(seed), [boundary], dataset, chosen[some])[boundary]
        found.append(left_out(rows, targets, labels, together))
    return _baseline(min(found, key=lambda each: float(each.errors.mean())), mine)


def _baseline(other: LeftOut, last: LeftOut) -> Baseline:
    return Baseline(other.accuracy, last.lead(other), removed(last.errors, other.errors, last.groups))


def _zero_shot(source: Source, dataset: Dataset, index: np.ndarray, context: Context) -> Interval | None:
    """Return the accuracy of the source's own answers; None where its labels do not cover the dataset's."""
    if not source.labels:
        return None
    try:
        fitted = technique("as-is").fit(source, dataset, context)
    except DatasetError:
        return None
    chosen = index[sample(dataset.targets(index), MAX_ROWS)]
    return share(predicted(fitted, dataset, chosen), groups(dataset, chosen))


def _distance(source: Source, rows: np.ndarray) -> float | None:
    sketch = source.sketch()
    if sketch is None or len(sketch.mean) != rows.shape[1]:
        return None
    return sketch.distance(FeatureSketch.of(rows))
