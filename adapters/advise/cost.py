"""Estimates of each candidate's duration on this machine, from measured operations.

Everything is measured: a few real batches of the dataset run through the source, a few real training steps
run, a head's penalty is searched, and two small networks are exported. The estimate is a technique's number
of operations (:class:`adapters.techniques.Effort`) times these durations. It is an upper bound: early
stopping may end training sooner.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from adapters import heads
from adapters.advise.phrases import minutes
from adapters.advise.proposal import TechniqueProposal
from adapters.advise.trial import ground, shortened
from adapters.datasets.dataset import TEST, TRAIN, VALIDATION, Dataset
from adapters.export.exporting import to_onnx
from adapters.features import batches, tensors
from adapters.heads.search import MAX_SEARCH_ROWS
from adapters.parity import MIN_INPUTS
from adapters.sources.source import Source
from adapters.sources.stages import Stages
from adapters.techniques import Context, Technique, TrainingEffort, technique
from registry.manifest import MULTILABEL
from registry.progress import SILENT
from registry.segments import canonical

BUDGET = 2.0
"""Seconds that timing the network may take, about: large networks run on fewer examples."""

FORWARD_ROWS = 64
"""Examples that are run to time the network, at most, spread over all lengths of text."""

STEP_BUDGET = 4.0
"""Seconds that the steps of one kind may take, about: large networks train on smaller batches."""

TIMED_BATCHES = 4
"""Batches that are trained on to time a step, spread likewise; the first one, in which memory is laid out, does not
count."""

SMALL_BATCH = 2
"""The smallest batch that is timed: the smallest that there is (:class:`adapters.training.Plan`)."""

BACKWARD = 3.0
"""Forward passes that a step of training is taken to cost: one forward, and two backward, through inputs and through
weights. It only says whether whole batches fit into the budget."""

SEARCH_ROWS = 256
"""Examples on which a search for a penalty is timed, at most."""

SEARCH_LABELS = 10
"""Labels of that search, at most."""

_CHAIN = 16


@dataclass(frozen=True, slots=True)
class Cost:
    """The expected duration of an adaptation.

    Attributes:
        fit: seconds of the fit, at most.
        rest: seconds of loading, export, parity and evaluation; less where the trunk was exported before.
        trial: seconds of a trial.
        at_most: whether training may stop early, so that the fit may take less.
    """

    fit: float
    rest: float
    trial: float
    at_most: bool = False

    @property
    def minutes(self) -> float:
        """Minutes of the whole adaptation."""
        return (self.fit + self.rest) / 60

    def text(self) -> str:
        """Write the minutes: ``about 0.3 minutes``, ``at most 12 minutes``."""
        return f"{'at most' if self.at_most else 'about'} {minutes(self.minutes)}"


@dataclass(frozen=True, slots=True)
class Paces:
    """Durations of operations on this machine, with this source and this dataset, in seconds.

    Attributes:
        forward: the whole network on one example, without gradients.
        search: the search for one head's penalty on all examples.
        export: the export of the whole network.
        load: the source.
        steps: one step of training, by the technique.
    """

    forward: float
    search: float
    export: float
    load: float
    steps: Mapping[str, float]

    def seconds(self, name: str, effort: TrainingEffort, learnt: int, held: int) -> float:
        """Return the duration of a technique's effort.

        Args:
            name: the technique's.
            effort: what it computes.
            learnt: training examples.
            held: validation examples.
        """
        forward = effort.passes * (learnt + held) + effort.checks * held
        return forward * self.forward + effort.steps * self.steps[name] + effort.searches * self.search


def costs(
    proposals: Sequence[TechniqueProposal], source: Source, dataset: Dataset, load: float, context: Context
) -> dict[str, Cost]:
    """Estimate each proposal's duration, by its technique's name.

    Args:
        proposals: at least one, each technique once.
        source: what to start from.
        dataset: the dataset; only the size of its test set is used.
        load: seconds that loading the source takes.
        context: seed, device, store and progress.

    Raises:
        SourceUnavailable: the source's weights are not on this machine.
        AdaptationError: a step of training failed.
        InvalidSetting: the source has no such stages.
    """
    learnt, held, tested = (len(dataset.index(part)) for part in (TRAIN, VALIDATION, TEST))
    stages = source.load()
    fits = {each.technique: technique(each.technique, each.settings) for each in proposals}
    for each in fits.values():
        each.check_source(source, stages)
    with context.progress.step("timing", 2 + len(fits)) as step:
        quiet = replace(context, progress=SILENT)
        step.advance(0, "features")
        forward = _forward(stages, dataset, quiet)
        step.advance(1, "export")
        export = _export(stages, context.clock)
        step.advance(1, "head")
        efforts = {name: each.effort(stages, learnt, held) for name, each in fits.items()}
        searched = any(effort.searches for effort in efforts.values())
        search = _search(stages, dataset, quiet) if searched else 0.0
        steps: dict[str, float] = {}
        kinds: dict[Any, float] = {}
        for name, each in fits.items():
            kind = each.step_kind(stages), efforts[name].batch_size
            if kind not in kinds:
                kinds[kind] = _step(each, source, stages, dataset, forward, quiet)
            steps[name] = kinds[kind]
            step.advance(1, name)
    paces = Paces(forward, search, export, load, steps)
    # torch and ONNX Runtime both answer what parity compares; held-out examples are run by the version and by the
    # untouched source.
    rest = load + export + forward * 2 * (MIN_INPUTS + tested)
    where = ground(dataset, context.seed)
    few, judged = len(where.learnt), len(where.judged)
    found = {}
    for proposal in proposals:
        name = proposal.technique
        short = shortened(proposal, few).effort(stages, few, 0)
        found[name] = Cost(
            fit=paces.seconds(name, efforts[name], learnt, held),
            rest=rest,
            trial=paces.seconds(name, short, few, 0) + judged * forward,
            at_most=efforts[name].stops_early,
        )
    return found


def _spread(dataset: Dataset, most: int) -> np.ndarray:
    """Choose training examples evenly from the shortest to the longest: positions, int64."""
    index = dataset.index(TRAIN)
    order = np.argsort(dataset.rows.lengths(index), kind="stable")
    return index[order[np.unique(np.linspace(0, len(index) - 1, min(most, len(index))).astype(np.int64))]]


@torch.no_grad()
def _forward(stages: Stages, dataset: Dataset, context: Context) -> float:
    """Return the network's time per example, in seconds."""

    def run(index: np.ndarray) -> float:
        start = context.clock()
        for places in batches(dataset.rows, index):
            # A copy to the CPU waits until a GPU has finished.
            stages(tensors(dataset.rows.batch(index[places]), context.device)).cpu()
        return (context.clock() - start) / len(index)

    stages.train(False).to(context.device)
    try:
        few = _spread(dataset, 2)
        run(few)
        once = run(few)
        return run(_spread(dataset, min(FORWARD_ROWS, max(2, int(BUDGET / max(once, 1e-9))))))
    finally:
        stages.to("cpu")


def _step(
    each: Technique, source: Source, stages: Stages, dataset: Dataset, forward: float, context: Context
) -> float:
    """Return the duration of a training step, in seconds.

    Where four whole steps do not fit into the budget, two smaller sizes are timed, and a straight line is laid through
    them: what a step costs whatever its size (the optimiser's share), and what each example adds.
    """
    examples = len(dataset.index(TRAIN))
    size = min(each.effort(stages, examples, 0).batch_size, examples)
    if not size:
        return 0.0

    def timed(batch: int) -> float:
        # From the shortest to the longest in batches of like lengths: each batch is as long as its longest text.
        some = _spread(dataset, TIMED_BATCHES * batch)
        return each.step_seconds(source, dataset, some, batch, context)

    if TIMED_BATCHES * BACKWARD * forward * size <= STEP_BUDGET or size <= SMALL_BATCH:
        return timed(size)
    small = timed(SMALL_BATCH)
    affordable = int(STEP_BUDGET / TIMED_BATCHES / small * SMALL_BATCH)
    batch = min(size, max(2 * SMALL_BATCH, affordable))
    larger = timed(batch)
    return larger + max(0.0, larger - small) / (batch - SMALL_BATCH) * (size - batch)


def _search(stages: Stages, dataset: Dataset, context: Context) -> float:
    """Return what the search for a head's penalty takes, in seconds, from one on fewer examples and labels."""
    index = dataset.index(TRAIN, VALIDATION)
    if dataset.kind == MULTILABEL:
        return 0.0
    targets = dataset.targets(index)
    counts = np.bincount(targets, minlength=len(dataset.labels))
    common = np.argsort(-counts, kind="stable")[:SEARCH_LABELS]
    chosen = np.flatnonzero(np.isin(targets, common))
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(SEARCH_ROWS, len(chosen))).astype(np.int64)]
    if len(np.unique(targets[chosen])) < 2:
        return 0.0
    rows = context.features(stages, dataset, index[chosen])
    numbers = np.unique(targets[chosen], return_inverse=True)[1].astype(np.int64)
    labels = int(numbers.max()) + 1
    start = context.clock()
    heads.logistic_head(rows, numbers, labels, seed=context.seed)
    spent = context.clock() - start
    everything = min(len(index), MAX_SEARCH_ROWS)
    dimensions = min(everything, rows.shape[1]) / min(len(rows), rows.shape[1])
    return float(spent * everything / len(rows) * dimensions * len(dataset.labels) / labels)


def _export(stages: Stages, clock: Callable[[], float]) -> float:
    """Return what the export of the network takes, in seconds: by the number of its operations."""
    first, each = _exporter(clock)
    counting = _Operations()
    with torch.no_grad(), counting:
        stages(stages.example())
    return first + each * counting.count


@cache
def _exporter(clock: Callable[[], float]) -> tuple[float, float]:
    """Return what the first export of a process takes besides, and what each operation takes, in seconds."""
    start = clock()
    _export_chain(1)
    between = clock()
    _export_chain(_CHAIN)
    return between - start, (clock() - between) / (2 * _CHAIN)


def _export_chain(layers: int) -> None:
    """Export a network of so many linear layers, each with its activation: two operations."""
    chain = [module for _ in range(layers) for module in (nn.Linear(8, 8), nn.ReLU())]
    canonical(to_onnx(nn.Sequential(*chain), [torch.zeros(2, 8)], ["x"], ["y"]))


class _Operations(TorchDispatchMode):
    """Counts the operations that torch dispatches."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's has no types
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count an operation and run it."""
        self.count += 1
        return func(*args, **(kwargs or {}))
