"""``features``: the trunk without a head, as a feature extractor."""

from dataclasses import dataclass
from typing import ClassVar

from adapters.datasets.dataset import Dataset
from adapters.sources.source import Source
from adapters.techniques.context import Context
from adapters.techniques.fitted import Fitted
from adapters.techniques.technique import Technique


@dataclass(frozen=True, kw_only=True)
class Features(Technique):
    """Leaves the source as it is and takes its head off: what is registered answers with vectors."""

    name: ClassVar[str] = "features"
    labelled: ClassVar[bool] = False

    def fit(self, source: Source, dataset: Dataset, context: Context) -> Fitted:
        """Load the source; the dataset is what the version will be compared on."""
        stages = source.load()
        stages.split(len(stages))
        return Fitted(
            technique=self.name,
            depth=None,
            stages=stages,
            frozen=len(stages),
            head=None,
            head_after=len(stages),
            labels=(),
            config=self.config(),
        )
