"""The result of a technique: a network for the target task, ready for export."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adapters.readout import MASK, readout
from adapters.sources.stages import NONE, Fields, Stages
from registry.errors import InvalidValue
from registry.manifest import CLASSIFICATION, Json


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A carried-over network, in eval mode, float32, on the CPU.

    Attributes:
        technique: the technique's name.
        depth: how many stages with parameters were retrained, where the technique takes a depth.
        stages: the stages as trained; its own ``head`` is the source's and is not part of the result.
        frozen: the first so many stages are the source's, bit for bit, and proved to be.
        head: from what stage ``head_after - 1`` leaves (features [N, D] as a rule) to logits
            [N, labels]; a ``nn.Linear`` except where ``as-is`` keeps or joins a source's own
            outputs; None for a feature extractor.
        head_after: number of stages that run below the head.
        labels: in the order of the logits; empty without head.
        config: every hyper-parameter in force.
        history: one mapping of figures for each epoch or search step, in order.
        kind: ``classification`` or ``multilabel``: what the logits mean.
        taps: boundaries whose averaged tensors are the features, ascending, 1 to ``len(stages)``;
            stages above the last are no part of the result. Empty where features are what the
            last stage leaves.
    """

    technique: str
    depth: int | None
    stages: Stages
    frozen: int
    head: nn.Module | None
    head_after: int
    labels: tuple[str, ...]
    config: Mapping[str, Json]
    history: tuple[Mapping[str, float], ...] = ()
    kind: str = CLASSIFICATION
    taps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.frozen <= len(self.stages) or not 0 < self.head_after <= len(self.stages):
            raise InvalidValue(f"{self.technique}: there are {len(self.stages)} stages")
        if (self.head is None) == bool(self.labels):
            raise InvalidValue(f"{self.technique}: a head and its labels come together")
        if self.taps and not 0 < self.taps[0] <= self.taps[-1] <= len(self.stages):
            raise InvalidValue(f"{self.technique}: taps are 1 to {len(self.stages)}, got {self.taps}")

    @property
    def height(self) -> int:
        """How many stages are part of the result."""
        return self.taps[-1] if self.taps else len(self.stages)

    @property
    def weight(self) -> Tensor | None:
        """Weight of a linear head, float32 [labels, D]; None for any other head."""
        return self.head.weight.detach() if isinstance(self.head, nn.Linear) else None

    @property
    def bias(self) -> Tensor | None:
        """Bias of a linear head, float32 [labels]; None for any other head."""
        return self.head.bias.detach() if isinstance(self.head, nn.Linear) else None

    def features(self, fields: Fields | Tensor) -> Tensor:
        """Return features, float32 [N, D], of the recipe's fields (or of pixels, uint8 [N, H, W, C])."""
        with torch.no_grad():
            value, sides = _entered(self.stages, fields)
            if not self.taps:
                return self.stages.run(value, sides=sides)
            carried, start = [], 0
            for stop in self.taps:
                value = self.stages.run(value, start, stop, sides=sides)
                carried.append(value)
                start = stop
            means = readout(self.stages, self.taps)
            features: Tensor = means(*carried, *((sides[MASK],) if means.masked else ()))
            return features

    def logits(self, fields: Fields | Tensor) -> Tensor:
        """Return logits, float32 [N, labels]; fields as of ``features``.

        Raises:
            InvalidValue: there is no head.
        """
        if self.head is None:
            raise InvalidValue(f"{self.technique} leaves features and no labels")
        with torch.no_grad():
            if self.taps or self.head_after == len(self.stages):
                logits: Tensor = self.head(self.features(fields))
            else:
                value, sides = _entered(self.stages, fields)
                logits = self.head(self.stages.run(value, stop=self.head_after, sides=sides))
        return logits


def _entered(stages: Stages, fields: Fields | Tensor) -> tuple[Tensor, Fields]:
    return (fields, NONE) if isinstance(fields, Tensor) else (fields[stages.entry], fields)
