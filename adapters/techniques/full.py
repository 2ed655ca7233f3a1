"""``full``: every stage is retrained from the source's weights."""

from dataclasses import dataclass
from typing import ClassVar

from adapters.datasets.dataset import Dataset
from adapters.sources.source import Source
from adapters.techniques.context import Context
from adapters.techniques.fitted import Fitted
from adapters.techniques.trained import Trained


@dataclass(frozen=True, kw_only=True)
class Full(Trained):
    """Fine-tunes the whole network under a head that starts at zero, as BiT does.

    Right for many items (some fifty a class and more).
    """

    name: ClassVar[str] = "full"

    def fit(self, source: Source, dataset: Dataset, context: Context) -> Fitted:
        """Train every stage and the head."""
        return self.carry(source.load(), 0, dataset, context)
