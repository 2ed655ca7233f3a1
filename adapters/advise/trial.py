"""Trials: a proposal is fitted on a small budget and evaluated on held-out examples.

Rules use measurements of frozen features; only a fit shows the effect of training. Renggli et al., "Which
Model to Transfer? Finding the Needle in the Growing Haystack" (2022), find that a shortlist of two, both
fine-tuned, leaves little regret.
"""

from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import torch
from torch import nn

from adapters.advise.intervals import groups
from adapters.advise.proposal import TechniqueProposal
from adapters.datasets.dataset import TRAIN, VALIDATION, Dataset
from adapters.features import batches, tensors
from adapters.sources.source import Source
from adapters.techniques import TECHNIQUES, Context, Fitted, Technique, technique
from adapters.techniques.contrastive import Contrastive
from adapters.techniques.trained import Trained
from adapters.training import Callback
from registry.progress import SILENT, ProgressStep
from registry.statistics.interval import Interval
from registry.statistics.share import share

STEPS = 60
"""Steps that a technique which trains a network gets: between an eighth and a sixteenth of its shortest schedule."""

LEARNT = 400
"""Examples that a proposal learns from, at most."""

JUDGED = 400
"""Examples that it is judged on, at most."""

SHARE = 0.25
"""Of the training examples that are kept for judging where there is no validation set."""

_BATCH = 64


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """The result of a trial.

    Attributes:
        proposal: what was fitted.
        right: whether each evaluated example was predicted correctly, bool [N].
        errors: squared distance of each example's probabilities to its label's indicator, float64 [N].
        seconds: that it took.
        groups: of the judged examples, int64 [N]; None where each stands alone.
    """

    proposal: TechniqueProposal
    right: np.ndarray
    errors: np.ndarray
    seconds: float
    groups: np.ndarray | None = None

    @property
    def accuracy(self) -> Interval:
        """Share of correct predictions."""
        return share(self.right, self.groups)


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """The examples of trials.

    Attributes:
        learnt: training examples: positions, int64, ascending.
        judged: evaluation examples, likewise.
    """

    learnt: np.ndarray
    judged: np.ndarray


def ground(dataset: Dataset, seed: int) -> Ground:
    """Choose examples to learn from and examples to judge on: the validation set, else a quarter of each class.

    A class that has a single example only teaches. Groups stay whole.
    """
    random = np.random.default_rng(seed)
    learnt, judged = dataset.index(TRAIN), dataset.index(VALIDATION)
    if not len(judged):
        kept = _kept(dataset, learnt, seed, random)
        learnt, judged = learnt[~kept], learnt[kept]
    return Ground(_some(dataset, learnt, LEARNT, random), _some(dataset, judged, JUDGED, random))


def shortened(proposal: TechniqueProposal, examples: int) -> Technique:
    """Return a proposal's technique, with a schedule that a trial can afford.

    Args:
        proposal: what is to be tried.
        examples: that it will learn from.
    """
    settings = dict(proposal.settings)
    kind = TECHNIQUES[proposal.technique]
    if issubclass(kind, Trained):
        settings["epochs"] = max(1, ceil(STEPS / ceil(examples / kind.batch_size)))
    elif issubclass(kind, Contrastive):
        settings["most_steps"] = STEPS
    return technique(proposal.technique, settings)


def attempt(
    proposal: TechniqueProposal,
    source: Source,
    dataset: Dataset,
    where: Ground,
    context: Context,
    step: ProgressStep | None = None,
) -> Trial:
    """Fit a proposal to the examples to learn from, within the budget, and judge it.

    Args:
        proposal: what to fit.
        source: what to start from.
        dataset: the examples.
        where: which of them to learn from and to judge on, at least one each.
        context: seed, device and store.
        step: is advanced by 1 in all, at every step of training.

    Raises:
        CultivarError: the fit failed.
    """
    start = context.clock()
    taught = dataset.divided({TRAIN: where.learnt})
    short = shortened(proposal, len(where.learnt))
    watched = _Watched(step, proposal.technique)
    quiet = replace(context, progress=SILENT, callbacks=(*context.callbacks, watched))
    fitted = short.fit(source, taught, quiet)
    scores = logits(fitted, taught, where.judged, context.device).astype(np.float64)
    targets = dataset.targets(where.judged, fitted.labels)
    shares = np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
    errors = np.square(shares - np.eye(len(fitted.labels))[targets]).sum(axis=1)
    watched.end()
    seconds = context.clock() - start
    return Trial(proposal, scores.argmax(axis=1) == targets, errors, seconds, groups(dataset, where.judged))


class _Watched(Callback):
    """Shows the progress of a trial, one training step at a time."""

    def __init__(self, step: ProgressStep | None, name: str) -> None:
        self._step = step
        self._name = name
        self._done = 0

    def on_step(self, network: nn.Module, loss: float) -> None:
        """Advance by a step's share."""
        self._done += 1
        if self._step is not None and self._done <= STEPS:
            self._step.advance(1 / STEPS, f"{self._name}, step {self._done}")

    def end(self) -> None:
        """Advance by the rest."""
        if self._step is not None:
            self._step.advance(1 - min(self._done, STEPS) / STEPS, self._name)


def predicted(fitted: Fitted, dataset: Dataset, index: np.ndarray) -> np.ndarray:
    """Tell of some examples whether they are predicted rightly, bool [N]."""
    best = logits(fitted, dataset, index, torch.device("cpu")).argmax(axis=1)
    right: np.ndarray = best == dataset.targets(index, fitted.labels)
    return right


def logits(fitted: Fitted, dataset: Dataset, index: np.ndarray, device: torch.device) -> np.ndarray:
    """Return a fitted network's logits of some examples, float32 [N, labels]; it is on the CPU afterwards."""
    assert fitted.head is not None, "proposals have heads"
    modules = (fitted.stages, fitted.head)
    found: np.ndarray | None = None
    for module in modules:
        module.to(device)
    try:
        for places in batches(dataset.rows, index, _BATCH):
            rows = fitted.logits(tensors(dataset.rows.batch(index[places]), device)).float().cpu().numpy()
            if found is None:
                found = np.empty((len(index), rows.shape[1]), np.float32)
            found[places] = rows
    finally:
        for module in modules:
            module.to("cpu")
    assert found is not None, "callers ask for at least one example"
    return found


def _kept(dataset: Dataset, index: np.ndarray, seed: int, random: np.random.Generator) -> np.ndarray:
    """Choose a quarter of each class to judge on, bool [N]."""
    targets = dataset.targets(index)
    kept = np.zeros(len(index), bool)
    together = groups(dataset, index)
    if together is None:
        for label in np.unique(targets):
            members = random.permutation(np.flatnonzero(targets == label))
            kept[members[: ceil(SHARE * len(members)) if len(members) > 1 else 0]] = True
        return kept
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(round(1 / SHARE), len(np.unique(together)))
    if folds < 2:
        return kept
    dealt = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    kept[next(dealt.split(index, targets, together))[1]] = True
    # A class without training examples cannot be evaluated.
    return kept & np.isin(targets, targets[~kept])


def _some(dataset: Dataset, index: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
    """Draw so many examples at most, each class by its share and at least one of each."""
    if len(index) <= most:
        return index
    targets = dataset.targets(index)
    ranked = np.concatenate(
        [random.permutation(np.flatnonzero(targets == each)) for each in np.unique(targets)]
    )
    # Places within the class, as a share of it, so that the first ones of every class are taken.
    counts = np.bincount(targets)
    places = np.concatenate([np.arange(counts[each]) / counts[each] for each in np.unique(targets)])
    return np.sort(index[ranked[np.argsort(places, kind="stable")[:most]]])
