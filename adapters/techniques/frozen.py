"""``frozen``: a new head on frozen features."""

from dataclasses import dataclass
from typing import ClassVar

from adapters import freezing, heads
from adapters.configuration import check
from adapters.datasets.dataset import TRAIN, VALIDATION, Dataset
from adapters.sources.source import Source
from adapters.sources.stages import Stages
from adapters.techniques.context import Context
from adapters.techniques.effort import TrainingEffort
from adapters.techniques.fitted import Fitted
from adapters.techniques.technique import Technique


@dataclass(frozen=True, kw_only=True)
class Frozen(Technique):
    """Computes every item's features once and solves for the head: seconds, and hard to get wrong.

    Right for few items (to about ten a class) and for tasks near the source's. Nothing is chosen
    by the validation part, so its items are learnt from too.

    Attributes:
        head: ``logistic`` (multinomial logistic regression; of each label for itself where items
            have several), ``ridge`` (closed form) or ``centroid`` (nearest class mean: for one or two
            items a class).
        l2: the penalty on the weights; None chooses it by cross-validation.
        calibrate: scale the logits by a temperature that fits the validation part.
    """

    head: heads.Kind = "logistic"
    l2: float | None = None
    calibrate: bool = True

    name: ClassVar[str] = "frozen"

    def __post_init__(self) -> None:
        check(self.l2 is None or self.l2 > 0, self.name, "l2", "above 0, or absent", self.l2)

    def effort(self, stages: Stages, learnt: int, held: int) -> TrainingEffort:
        """Return one pass, and the search for the penalty."""
        return TrainingEffort(passes=1, searches=int(self.head == "logistic" and self.l2 is None))

    def fit(self, source: Source, dataset: Dataset, context: Context) -> Fitted:
        """Solve for the head on the source's features."""
        self.demand_labels(dataset)
        stages = source.load()
        index = dataset.index(TRAIN, VALIDATION)
        with freezing.frozen(stages, len(stages)):
            rows = context.features(stages, dataset, index)
        head = context.solve(self.head, rows, dataset, index, self.l2, self.calibrate)
        return Fitted(
            technique=self.name,
            depth=None,
            stages=stages,
            frozen=len(stages),
            head=head.module(),
            head_after=len(stages),
            labels=dataset.labels,
            config=self.config() | {"l2": head.l2 or None},  # a centroid has no penalty
            kind=dataset.kind,
            history=tuple({"l2": l2, "left_out_loss": loss} for l2, loss in head.search),
        )
