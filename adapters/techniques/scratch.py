"""``scratch``: the source's architecture, trained from random weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from adapters.datasets.dataset import Dataset
from adapters.sources.source import Source
from adapters.techniques.context import Context
from adapters.techniques.fitted import Fitted
from adapters.techniques.trained import Trained


@dataclass(frozen=True, kw_only=True)
class Scratch(Trained):
    """Trains the architecture from nothing: the baseline of every transfer, and the way out of a bad one.

    Its rates are 5 to 10 times those of fine-tuning, its shortest schedule twice as long.
    """

    head_factor: float = 1.0

    name: ClassVar[str] = "scratch"
    pretrained: ClassVar[bool] = False
    rates: ClassVar[Mapping[str, float]] = {"sgd": 0.05, "adamw": 1e-3}
    least_steps: ClassVar[int] = 1000

    def fit(self, source: Source, dataset: Dataset, context: Context) -> Fitted:
        """Draw random weights from the seed, then train every stage and the head."""
        return self.carry(source.load(context.seed), 0, dataset, context)
