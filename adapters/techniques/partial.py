"""``partial``: the last stages are retrained, the lower ones are frozen."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from adapters.configuration import check
from adapters.datasets.dataset import Dataset
from adapters.sources.source import Source
from adapters.sources.stages import Stages
from adapters.techniques.context import Context
from adapters.techniques.fitted import Fitted
from adapters.techniques.trained import Trained
from registry.errors import InvalidSetting


@dataclass(frozen=True, kw_only=True)
class Partial(Trained):
    """Retrains the last ``depth`` stages under a head that was solved first.

    What the frozen stages leave is computed once, so an epoch costs only what is retrained. The
    head starts solved, because a random one would pull the tail out of shape before it fits
    (Kumar et al., 2022).

    Attributes:
        depth: stages with parameters to retrain, counted from the top, at least 1.
    """

    depth: int = 1
    batch_norm: Literal["learn", "keep"] = "keep"
    start: Literal["zero", "ridge", "logistic"] = "logistic"
    head_factor: float = 1.0

    name: ClassVar[str] = "partial"

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.depth >= 1, self.name, "depth", "1 or more stages", self.depth)

    def check_source(self, source: Source, stages: Stages) -> None:
        """Refuse a depth that the source does not have."""
        if self.depth > (there := len(stages.depths())):
            raise InvalidSetting(f"{source.spec} has {there} stages to retrain, got a depth of {self.depth}")

    def fit(self, source: Source, dataset: Dataset, context: Context) -> Fitted:
        """Train the last stages and the head."""
        stages = source.load()
        self.check_source(source, stages)
        return self.carry(stages, self.boundary(stages), dataset, context, self.depth)

    def boundary(self, stages: Stages) -> int:
        """Return how many stages lie below the last ``depth`` ones."""
        return stages.depths()[self.depth - 1]
