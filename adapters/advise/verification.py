"""The two best proposals, fitted for real on a small budget and judged on items that neither learnt from.

Rules read figures of frozen features; only a fit shows what training makes of them. Renggli et al., "Which Model to
Transfer? Finding the Needle in the Growing Haystack" (2022), find that a shortlist of two, both fine-tuned, leaves
little regret.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import torch

from adapters.advise.interval import Interval
from adapters.advise.proposal import Proposal
from adapters.datasets.dataset import TRAIN, VALIDATION, Dataset
from adapters.features import batches, tensors
from adapters.sources.source import Source
from adapters.techniques import TECHNIQUES, Fitted, Workshop, technique
from adapters.techniques.contrastive import Contrastive
from adapters.techniques.trained import Trained
from registry.progress import SILENT

STEPS = 60
"""Steps that a technique which trains a network gets: between an eighth and a sixteenth of its shortest schedule."""

LEARNT = 400
"""Items that a proposal learns from, at most."""

JUDGED = 400
"""Items that it is judged on, at most."""

SHARE = 0.25
"""Of the training items that are kept for judging where there is no validation part."""

NEAR = 0.01
"""Accuracies closer than a point are a tie."""

_BATCH = 64


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A proposal, tried.

    Attributes:
        proposal: what was fitted.
        right: whether each judged item was answered rightly, bool [N].
        errors: squared distance of each item's probabilities to its label's indicator, float64 [N].
        seconds: that it took.
    """

    proposal: Proposal
    right: np.ndarray
    errors: np.ndarray
    seconds: float

    @property
    def accuracy(self) -> Interval:
        """Share of right answers."""
        return Interval.of_share(self.right)


@dataclass(frozen=True, slots=True, eq=False)
class Verification:
    """What became of the two.

    Attributes:
        first: what the rules put first.
        second: what they put second.
        learnt: items that both learnt from.
    """

    first: Trial
    second: Trial
    learnt: int

    @property
    def lead(self) -> Interval:
        """Accuracy of the second above that of the first, on the same items."""
        return Interval.of_lead(self.second.right, self.first.right)

    @property
    def removed(self) -> Interval:
        """Share of the first one's squared error that the second does without."""
        return Interval.of_removed(self.second.errors, self.first.errors)

    @property
    def clear(self) -> bool:
        """Whether one is better by a point at least, and by a squared error that chance does not explain."""
        ahead = self.removed.low > 0 and self.lead.value >= NEAR
        return ahead or (self.removed.high < 0 and self.lead.value <= -NEAR)

    @property
    def tied(self) -> bool:
        """Whether they are within a point of each other, and chance explains that."""
        return not self.clear and abs(self.lead.value) < NEAR

    @property
    def winner(self) -> Trial:
        """The better one, where that is clear; of two that tie, the one that retrains less; else the first."""
        if self.clear:
            return self.second if self.lead.value > 0 else self.first
        lighter = self.second.proposal.retrained < self.first.proposal.retrained
        return self.second if self.tied and lighter else self.first


def verify(
    proposals: Sequence[Proposal], source: Source, dataset: Dataset, workshop: Workshop
) -> Verification | None:
    """Try the two best proposals; None where there are not two, or too few items to keep any for judging.

    Raises:
        CultivarError: a fit failed.
    """
    learnt, judged = divided(dataset, workshop.seed)
    if len(proposals) < 2 or not len(judged):
        return None
    part = dataset.divided({TRAIN: learnt})
    with workshop.progress.step("trying the two best", 2) as step:
        trials = []
        for proposal in proposals[:2]:
            trials.append(attempt(proposal, source, part, judged, replace(workshop, progress=SILENT)))
            step.advance(1, proposal.technique)
    return Verification(trials[0], trials[1], len(learnt))


def attempt(
    proposal: Proposal, source: Source, part: Dataset, judged: np.ndarray, workshop: Workshop
) -> Trial:
    """Fit a proposal to the training part, within the budget, and judge it on other items of the dataset."""
    start = time.perf_counter()
    settings = dict(proposal.settings)
    kind = TECHNIQUES[proposal.technique]
    count = len(part.index(TRAIN))
    if issubclass(kind, Trained):
        settings["epochs"] = max(1, ceil(STEPS / ceil(count / kind.batch_size)))
    elif issubclass(kind, Contrastive):
        settings["most_steps"] = STEPS
    fitted = technique(proposal.technique, settings).fit(source, part, workshop)
    scores = logits(fitted, part, judged, workshop.device).astype(np.float64)
    targets = part.targets(judged, fitted.labels)
    shares = np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
    errors = np.square(shares - np.eye(len(fitted.labels))[targets]).sum(axis=1)
    return Trial(proposal, scores.argmax(axis=1) == targets, errors, time.perf_counter() - start)


def divided(dataset: Dataset, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return items to learn from and items to judge on: the validation part, else a quarter of each class.

    A class that has a single item only teaches. Positions, int64, ascending.
    """
    random = np.random.default_rng(seed)
    learnt, judged = dataset.index(TRAIN), dataset.index(VALIDATION)
    if not len(judged):
        targets = dataset.targets(learnt)
        kept = np.zeros(len(learnt), bool)
        for label in np.unique(targets):
            members = random.permutation(np.flatnonzero(targets == label))
            kept[members[: ceil(SHARE * len(members)) if len(members) > 1 else 0]] = True
        learnt, judged = learnt[~kept], learnt[kept]
    return _some(dataset, learnt, LEARNT, random), _some(dataset, judged, JUDGED, random)


def answered(fitted: Fitted, dataset: Dataset, index: np.ndarray) -> np.ndarray:
    """Tell of some items whether they are answered rightly, bool [N]."""
    answers = logits(fitted, dataset, index, torch.device("cpu")).argmax(axis=1)
    right: np.ndarray = answers == dataset.targets(index, fitted.labels)
    return right


def logits(fitted: Fitted, dataset: Dataset, index: np.ndarray, device: torch.device) -> np.ndarray:
    """Return a fitted network's logits of some items, float32 [N, labels]; it is on the CPU afterwards."""
    assert fitted.head is not None, "proposals have heads"
    parts = (fitted.stages, fitted.head)
    found: np.ndarray | None = None
    for part in parts:
        part.to(device)
    try:
        for places in batches(dataset.rows, index, _BATCH):
            rows = fitted.logits(tensors(dataset.rows.batch(index[places]), device)).float().cpu().numpy()
            if found is None:
                found = np.empty((len(index), rows.shape[1]), np.float32)
            found[places] = rows
    finally:
        for part in parts:
            part.to("cpu")
    assert found is not None, "callers ask for at least one item"
    return found


def _some(dataset: Dataset, index: np.ndarray, most: int, random: np.random.Generator) -> np.ndarray:
    """Draw so many items at most, each class by its share and at least one of each."""
    if len(index) <= most:
        return index
    targets = dataset.targets(index)
    ranked = np.concatenate(
        [random.permutation(np.flatnonzero(targets == each)) for each in np.unique(targets)]
    )
    # Places within the class, as a share of it, so that the first ones of every class are taken.
    counts = np.bincount(targets)
    share = np.concatenate([np.arange(counts[each]) / counts[each] for each in np.unique(targets)])
    return np.sort(index[ranked[np.argsort(share, kind="stable")[:most]]])
