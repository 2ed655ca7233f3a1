"""The complete adaptation: from a dataset and a source to a registered version."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from adapters import datasets, techniques
from adapters.advise.advice import Advice, advise
from adapters.advise.decision import Preference
from adapters.datasets import TEST, TRAIN, VALIDATION, Dataset
from adapters.phases import Phases
from adapters.preflight import check_order, space_check
from adapters.publish import PreparedTransfer, publish, weights_digests
from adapters.sources.sketch import MAX_DIMENSION, MAX_ROWS, FeatureSketch
from adapters.sources.source import Source
from adapters.sources.verifier import Verifier
from adapters.techniques import AsIs, Features, Frozen, Layers
from registry.cache import FeatureStore, MemoryStore
from registry.errors import InvalidSetting
from registry.manifest import Manifest
from registry.names import SCRATCH_SOURCE, Transfer
from registry.progress import SILENT, Progress
from registry.promotion import Promotion
from registry.quoting import quoted
from registry.registry import Registry
from registry.versions import Version

AUTO = "auto"
_FROZEN = frozenset({AsIs.name, Features.name, Frozen.name, Layers.name})
"""Techniques that do not change any weight below the head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The parameters of an adaptation.

    Attributes:
        data: a folder, a table or ``example:NAME``.
        source: the source.
        target: the target task.
        technique: a technique's name, or ``auto`` to have the adviser choose.
        test: test data; None holds out a part of ``data``.
        min_count: labels with fewer examples are dropped; 0 keeps all.
        settings: the technique's hyper-parameters that differ from the defaults.
        source_task: the source task, if the provider declares none.
        seed: the random seed.
        promote: stage to promote the version to, or None.
        prefer: what the adviser prefers if a more accurate technique costs more; None prefers cost.
    """

    data: str
    source: Source
    target: str
    technique: str
    test: str | None = None
    min_count: int = 0
    settings: Mapping[str, object] = field(default_factory=dict)
    source_task: str | None = None
    seed: int = 0
    promote: str | None = None
    prefer: Preference | None = None


@dataclass(frozen=True, slots=True)
class Adaptation:
    """The result of an adaptation.

    Attributes:
        version: the registered version.
        manifest: its manifest.
        promotion: its promotion, if requested.
        seconds: durations by phase, in order.
        advice: the advice, if the adviser chose the technique.
    """

    version: Version
    manifest: Manifest
    promotion: Promotion | None
    seconds: Mapping[str, float]
    advice: Advice | None = None

    def to_json(self) -> dict[str, object]:
        """Return the JSON form for the command line."""
        parity = self.manifest.parity
        return self.version.to_json() | {
            "parity": {
                "max_abs_difference": max(parity.max_abs_difference.values()),
                "top1_agreement": parity.top1_agreement,
                "inputs": sum(parity.inputs.values()),
            },
            "segments": [
                {"role": segment.role, "digest": segment.digest, "bytes": segment.bytes}
                for segment in self.manifest.segments
            ],
            "seconds": round(sum(self.seconds.values()), 3),
            "phases": {name: round(seconds, 3) for name, seconds in self.seconds.items()},
            **({} if self.advice is None else {"advice": self.advice.to_json()}),
        }


def adapt(
    order: Order,
    registry: Registry,
    progress: Progress = SILENT,
    store: FeatureStore | None = None,
    verifier: Verifier | None = None,
) -> Adaptation:
    """Adapt a source to a dataset's task and register the version.

    Args:
        order: the parameters.
        registry: the registry for the version.
        progress: shows the progress.
        store: the feature cache; None caches features for this run only.
        verifier: verifies the source against its provider's own code and remembers the result; None verifies
            it in every run.

    Raises:
        CultivarError: a step failed; nothing is registered then. Names, settings, paths, weights and disk
            space are checked before the first example is read.
    """
    phases = Phases(progress)
    context = techniques.Context(seed=order.seed, progress=progress, store=store or MemoryStore())
    source = order.source
    advice = None
    technique = _named(order)
    # All possible checks are made here, before an example is read and hours are spent.
    task = _source_task(order, technique is None or technique.pretrained)
    labelled = technique is None or technique.labelled
    if order.min_count and not labelled:
        raise InvalidSetting(
            f"expected no least count of labels, because {order.technique} needs none; leave it out"
        )
    check_order(order, registry)
    with phases.phase("source", "loading the source"):
        if technique is None or technique.pretrained:
            for remark in source.remarks():
                progress.say(remark)
        stages = source.load(None if technique is None or technique.pretrained else order.seed)
        if technique is not None:
            technique.check_source(source, stages)
    verification = None
    if technique is None or technique.pretrained:
        with phases.phase("verify", "verifying the source"):
            verification = (verifier or Verifier(progress=progress)).verify(source)
    with phases.phase("data", "reading the data"):
        dataset = datasets.load(
            order.data,
            source.recipe,
            test=order.test,
            labelled=labelled,
            min_count=order.min_count,
            progress=progress,
            before=space_check(
                source, stages, technique is not None and technique.name in _FROZEN, registry, context.store
            ),
        )
    if technique is None:
        with phases.phase("advise", "advising"):
            advice = advise(source, dataset, context, prefer=order.prefer or Preference.COST)
        progress.say(advice.text())
        technique = techniques.technique(advice.recommended.technique, advice.recommended.settings)
        task = _source_task(order, technique.pretrained)
    with phases.phase("source", "hashing the source's weights"):
        if advice is not None and not technique.pretrained:
            stages = source.load(order.seed)
        weights = weights_digests(stages)
        outside = frozenset(weights) - source.states.keys() if technique.pretrained else frozenset()
    del stages
    with phases.phase("fit", f"fitting {technique.name}"):
        fitted = technique.fit(source, dataset, context)
    with phases.phase("baseline", "features of the untouched source"):
        baseline = _baseline(source, dataset, context) if technique.pretrained and fitted.labels else None
    with phases.phase("sketch", "sketching the features"):
        sketch = _sketch(fitted, dataset, context)
    transfer = Transfer(task, order.target)
    prepared = PreparedTransfer(
        transfer,
        source,
        weights,
        outside,
        fitted,
        dataset,
        order.seed,
        baseline,
        sketch,
        verification if technique.pretrained else None,
    )
    with registry.publication() as publication:
        version, manifest = publish(prepared, publication, registry.blob, phases)
    promotion = None
    if order.promote is not None:
        with phases.phase("promote", "promoting"):
            promotion = registry.promote(version.ref, order.promote)
            version = registry.resolve(version.ref)
    return Adaptation(version, manifest, promotion, phases.seconds, advice)


def _named(order: Order) -> techniques.Technique | None:
    """Return the requested technique with its settings; None if the adviser chooses."""
    if order.technique != AUTO:
        if order.prefer is not None:
            raise InvalidSetting(
                f"--prefer is for the technique {AUTO}, got {quoted(order.technique)}; leave it out"
            )
        return techniques.technique(order.technique, order.settings)
    if order.settings:
        raise InvalidSetting(
            f"with {AUTO} the adviser chooses the settings too; leave out {', '.join(sorted(order.settings))}, "
            "or name a technique"
        )
    return None


def _baseline(
    source: Source, dataset: Dataset, context: techniques.Context
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the unchanged source's features of the training and test examples."""
    stages = source.load()
    parts = dataset.index(TRAIN, VALIDATION), dataset.index(TEST)
    if not all(len(index) for index in parts):
        return None
    learnt, held = (context.features(stages, dataset, index) for index in parts)
    return learnt, held


def _sketch(fitted: techniques.Fitted, dataset: Dataset, context: techniques.Context) -> FeatureSketch | None:
    """Return the mean and covariance of the network's features on its training examples."""
    index = dataset.index(TRAIN, VALIDATION)
    index = (
        index[np.unique(np.linspace(0, len(index) - 1, MAX_ROWS).astype(np.int64))] if len(index) else index
    )
    if fitted.taps or len(index) < 2 or fitted.stages.features_dim > MAX_DIMENSION:
        return None
    return FeatureSketch.of(context.features(fitted.stages, dataset, index))


def _source_task(order: Order, pretrained: bool) -> str:
    if not pretrained:
        return SCRATCH_SOURCE
    declared = order.source.task
    if declared is None:
        if order.source_task is None:
            raise InvalidSetting(f"{order.source.spec} does not declare its task; name it with --source-task")
        return order.source_task
    if order.source_task not in (None, declared):
        raise InvalidSetting(f"{order.source.spec} declares the task {declared!r}; leave out --source-task")
    return declared
