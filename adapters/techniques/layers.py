"""``layers``: a new head on features from the most useful layers, not only the last."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from adapters import freezing, heads
from adapters.configuration import check
from adapters.datasets.dataset import TRAIN, VALIDATION, Dataset
from adapters.sources.source import Source
from adapters.sources.stages import Stages
from adapters.techniques.context import Context
from adapters.techniques.effort import TrainingEffort
from adapters.techniques.fitted import Fitted
from adapters.techniques.technique import Technique
from registry.errors import InvalidSetting

GAIN = 0.02
"""Share of the cross-validated log loss that one more layer has to save: each makes every vector longer."""


@dataclass(frozen=True, kw_only=True)
class Layers(Technique):
    """Takes the features of one cut point or several, averaged over places or tokens, and solves for a head.

    Right where the task is unlike the source's: upper layers then know too much of the old task.
    Layers are added one by one, the most useful first, as long as the cross-validated log loss
    falls: forward selection, a simple stand-in for Head2Toe's group lasso (Evci et al., 2022).
    Stages above the last chosen one are left out of the version, so it may run faster than the source.

    Attributes:
        cuts: names of the cut points; None chooses them.
        most: how many may be chosen.
        l2: the penalty on the head's weights; None chooses it by cross-validation.
        calibrate: scale the logits by a temperature that fits the validation part.
    """

    cuts: tuple[str, ...] | None = None
    most: int = 3
    l2: float | None = None
    calibrate: bool = True

    name: ClassVar[str] = "layers"

    def __post_init__(self) -> None:
        check(self.cuts is None or len(self.cuts) > 0, self.name, "cuts", "one cut point or more", self.cuts)
        check(self.most >= 1, self.name, "most", "1 or more", self.most)
        check(self.l2 is None or self.l2 > 0, self.name, "l2", "above 0, or absent", self.l2)

    def check_source(self, source: Source, stages: Stages) -> None:
        """Refuse a cut point that the source does not have."""
        self._boundaries(source, stages)

    def effort(self, stages: Stages, learnt: int, held: int) -> TrainingEffort:
        """Return one pass, and a search for each set of layers that is tried."""
        tried = sum(len(stages) - chosen for chosen in range(min(self.most, len(stages))))
        return TrainingEffort(
            passes=1, searches=(0 if self.cuts is not None else tried) + int(self.l2 is None)
        )

    def fit(self, source: Source, dataset: Dataset, context: Context) -> Fitted:
        """Choose the layers and solve for the head.

        Raises:
            InvalidSetting: the source has no such cut point.
        """
        self.demand_labels(dataset)
        stages = source.load()
        boundaries = self._boundaries(source, stages)
        index = dataset.index(TRAIN, VALIDATION)
        with freezing.frozen(stages, len(stages)):
            tapped = context.taps(stages, boundaries, dataset, index)
        history: list[Mapping[str, float]] = []
        chosen = boundaries
        if self.cuts is None:
            with context.progress.step("choosing layers"):
                chosen = _selected(
                    tapped, dataset.targets(index), len(dataset.labels), self.most, context.seed, history
                )
        rows = np.concatenate([tapped[boundary] for boundary in chosen], axis=1)
        head = context.solve("logistic", rows, dataset, index, self.l2, self.calibrate)
        return Fitted(
            technique=self.name,
            depth=None,
            stages=stages,
            frozen=len(stages),
            head=head.module(),
            head_after=len(stages),
            labels=dataset.labels,
            config=replace(self, cuts=tuple(stages.names[each - 1] for each in chosen), l2=head.l2).config(),
            history=tuple(history),
            kind=dataset.kind,
            taps=tuple(chosen),
        )

    def _boundaries(self, source: Source, stages: Stages) -> list[int]:
        if self.cuts is None:
            return list(range(1, len(stages) + 1))
        if unknown := [cut for cut in self.cuts if cut not in stages.names]:
            raise InvalidSetting(
                f"{source.spec} has the cut points {', '.join(stages.names)}, got {unknown[0]!r}"
            )
        return sorted({stages.names.index(cut) + 1 for cut in self.cuts})


def _selected(
    tapped: Mapping[int, np.ndarray],
    targets: np.ndarray,
    labels: int,
    most: int,
    seed: int,
    history: list[Mapping[str, float]],
) -> list[int]:
    """Return the boundaries to take features from, ascending; tell the history what each choice cost."""

    def loss(boundaries: list[int]) -> float:
        rows = np.concatenate([tapped[boundary] for boundary in boundaries], axis=1)
        search = heads.logistic_head(rows, targets, labels, seed=seed).search
        found = min((cost for _, cost in search), default=float("inf"))
        history.append({f"cut {boundary}": 1.0 for boundary in boundaries} | {"left_out_loss": found})
        return found

    last = max(tapped)
    chosen, best = [last], loss([last])
    for boundary in sorted(tapped, reverse=True)[1:]:
        if (cost := loss([boundary])) < best * (1 - GAIN):
            chosen, best = [boundary], cost
    while len(chosen) < min(most, len(tapped)):
        trials = {each: loss(sorted([*chosen, each])) for each in tapped if each not in chosen}
        nearest = min(trials, key=lambda each: trials[each])
        if not trials[nearest] < best * (1 - GAIN):
            break
        chosen, best = [*chosen, nearest], trials[nearest]
    return sorted(chosen)
