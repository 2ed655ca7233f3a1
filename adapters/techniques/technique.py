"""The interface of all techniques."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar, Self

import numpy as np

from adapters.configuration import configure
from adapters.datasets.dataset import Dataset
from adapters.sources.source import Source
from adapters.sources.stages import Stages
from adapters.techniques.context import Context
from adapters.techniques.effort import TrainingEffort
from adapters.techniques.fitted import Fitted
from registry.errors import DatasetError
from registry.manifest import Json


@dataclass(frozen=True, kw_only=True)
class Technique(ABC):
    """A technique; its fields are its hyper-parameters, with documented defaults.

    Attributes:
        name: what the command line calls it.
        labelled: whether it needs labels.
        pretrained: whether it starts from the source's weights, or only from its architecture.
    """

    name: ClassVar[str]
    labelled: ClassVar[bool] = True
    pretrained: ClassVar[bool] = True

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self:
        """Build the technique from settings of a file or flags.

        Raises:
            InvalidSetting: a key is unknown, or a value cannot be used.
        """
        return configure(cls, values, cls.name)

    def config(self) -> dict[str, Json]:
        """Return every hyper-parameter as plain JSON values."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }

    def demand_labels(self, dataset: Dataset) -> None:
        """Refuse data that nothing can be told apart by.

        Raises:
            DatasetError: there are fewer than two labels.
        """
        if len(dataset.labels) < 2:
            raise DatasetError(
                f"{self.name} learns to tell labels apart and needs two or more; "
                f"{dataset.name} has {', '.join(dataset.labels) or 'none'}"
            )

    def check_source(self, source: Source, stages: Stages) -> None:
        """Refuse a source that the technique, as it is set, can do nothing with; asked before any data are read.

        Args:
            source: what is to be adapted.
            stages: its network.

        Raises:
            InvalidSetting: a setting does not fit the source.
            DatasetError: the source lacks what the technique needs.
        """
        return

    def effort(self, stages: Stages, learnt: int, held: int) -> TrainingEffort:
        """Return what a fit computes at most: nothing, unless overridden.

        Args:
            stages: the network.
            learnt: training examples.
            held: validation examples.
        """
        return TrainingEffort()

    def step_kind(self, stages: Stages) -> Hashable:
        """Return what two techniques have in common whose steps take equally long; None where there are no steps."""
        return None

    def step_seconds(
        self, source: Source, dataset: Dataset, index: np.ndarray, batch_size: int, context: Context
    ) -> float:
        """Measure how long a step of training takes, by a few real ones; 0 where there are no steps.

        Args:
            source: what to start from; a network of its own is loaded, and forgotten.
            dataset: the examples.
            index: which of them to take steps on, four batches or more, int64 [N].
            batch_size: examples, or pairs of them, that a step trains on.
            context: seed and device.

        Raises:
            AdaptationError: training failed.
        """
        return 0.0

    @abstractmethod
    def fit(self, source: Source, dataset: Dataset, context: Context) -> Fitted:
        """Adapt the source.

        Raises:
            SourceUnavailable: the source's weights are not on this machine.
            DatasetError: the technique cannot learn from these items.
            FrozenPartMoved: a frozen parameter or buffer changed.
            AdaptationError: training failed.
        """
