"""``lp-ft``: linear probing of the head first, then fine-tuning of everything at a low learning rate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from adapters.datasets.dataset import Dataset
from adapters.sources.source import Source
from adapters.techniques.context import Context
from adapters.techniques.fitted import Fitted
from adapters.techniques.trained import Trained


@dataclass(frozen=True, kw_only=True)
class LpFt(Trained):
    """Linear probing, then fine-tuning at a tenth of the usual rate.

    A head that fits leaves the features in shape: about as good as ``full`` on data like the
    training data, and much better off it (Kumar et al., "Fine-Tuning can Distort Pretrained Features and
    Underperform Out-of-Distribution", 2022).
    """

    batch_norm: Literal["learn", "keep"] = "keep"
    start: Literal["zero", "ridge", "logistic"] = "logistic"
    head_factor: float = 1.0

    name: ClassVar[str] = "lp-ft"
    rates: ClassVar[Mapping[str, float]] = {"sgd": 0.001, "adamw": 1e-5}

    def fit(self, source: Source, dataset: Dataset, context: Context) -> Fitted:
        """Solve for the head, then train every stage and the head."""
        return self.carry(source.load(), 0, dataset, context)
