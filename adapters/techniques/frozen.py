"""``frozen``: a new head on features that stay as they are."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from adapters import features, freezing, heads
from adapters.configuration import check
from adapters.datasets.dataset import TRAIN, VALIDATION, Dataset
from adapters.sources.source import Source
from adapters.techniques.fitted import Fitted
from adapters.techniques.technique import Technique
from adapters.techniques.workshop import Workshop


@dataclass(frozen=True, kw_only=True)
class Frozen(Technique):
    """Computes every item's features once and solves for the head: seconds, and hard to get wrong.

    Right for few items (to about ten a class) and for tasks near the source's. Nothing is chosen
    by the validation part, so its items are learnt from too.

    Attributes:
        head: ``logistic`` (multinomial logistic regression) or ``ridge`` (closed form).
        l2: the penalty on the weights; None chooses it by cross-validation.
    """

    head: Literal["logistic", "ridge"] = "logistic"
    l2: float | None = None

    name: ClassVar[str] = "frozen"

    def __post_init__(self) -> None:
        check(self.l2 is None or self.l2 > 0, self.name, "l2", "above 0, or absent", self.l2)

    def fit(self, source: Source, dataset: Dataset, workshop: Workshop) -> Fitted:
        """Solve for the head on the source's features."""
        self.demand_labels(dataset)
        stages = source.load()
        index = dataset.index(TRAIN, VALIDATION)
        with freezing.frozen(stages, len(stages)):
            rows = features.compute(
                stages,
                len(stages),
                dataset,
                index,
                device=workshop.device,
                store=workshop.store,
                progress=workshop.progress,
            )
        targets, labels = dataset.targets(index), len(dataset.labels)
        if self.head == "logistic":
            head = heads.logistic_head(rows, targets, labels, l2=self.l2, seed=workshop.seed)
        else:
            head = heads.ridge_head(rows, targets, labels, l2=self.l2)
        return Fitted(
            technique=self.name,
            depth=None,
            stages=stages,
            frozen=len(stages),
            head=head.module(),
            head_after=len(stages),
            labels=dataset.labels,
            config=self.config() | {"l2": head.l2},
            history=tuple({"l2": l2, "left_out_loss": loss} for l2, loss in head.search),
        )
