"""A pretrained network as an ordered list of stages, each of which carries one tensor.

Running the stages one after another is the network, from uint8 pixels to ``features``: the
vector [N, D] that the last layer takes. Stages end at pinned cut points, so a version frozen
below one of them shares its lower stages with every other version of the same source.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from adapters.sources.normalisation import Normalisation
from registry.errors import InvalidValue


class Frozen(nn.Sequential):
    """Lower stages that no longer learn: always in eval mode, without gradients, whatever ``train`` says."""

    def __init__(self, stages: "OrderedDict[str, nn.Module]") -> None:
        super().__init__(stages)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode: batch-norm statistics and dropout would otherwise change what is shared."""
        return super().train(False)

    def forward(self, value: Tensor) -> Tensor:
        """Run every stage, without recording gradients."""
        with torch.no_grad():
            for stage in self:
                value = stage(value)
        return value


@dataclass(frozen=True, slots=True)
class Split:
    """Stages divided at a boundary; both halves share their parameters with the stages.

    Attributes:
        lower: the frozen part, from pixels, uint8 [N, H, W, C], to the carried tensor; empty
            (it returns its input) where everything is trained.
        upper: the trained part, from the carried tensor (or pixels) to features [N, D]; empty
            where everything is frozen.
    """

    lower: Frozen
    upper: nn.Sequential


class Stages(nn.Module):
    """A network from pixels to features, cut into stages, and the head it came with.

    Attributes:
        architecture: name of the network's design, part of every weights digest.
        names: the stages' names from the input on: the module path that each one ends at, or
            ``pool`` where pooling is a function without a path. The last one leaves features.
        stages: the modules, one for each name. The first takes pixels, uint8 [N, H, W, C], and
            normalises them; each of the others takes what the one before it leaves; the last
            leaves features, float32 [N, features_dim].
        features_dim: length of a feature vector.
        input_size: (height, width) in pixels that the weights were made for.
        normalisation: what the first stage begins with.
        head: the network's own output layer, or None. A linear layer on features, except where
            ``head_after`` says otherwise.
        head_after: number of stages that run below ``head``: ``len(names)``, or fewer where the
            head hangs off a map before pooling (SqueezeNet's convolution).
    """

    def __init__(
        self,
        architecture: str,
        stages: "OrderedDict[str, nn.Module]",
        *,
        features_dim: int,
        input_size: tuple[int, int],
        normalisation: Normalisation,
        head: nn.Module | None = None,
        head_after: int | None = None,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.names = tuple(stages)
        self.stages = nn.ModuleList(stages.values())
        self.features_dim = features_dim
        self.input_size = input_size
        self.normalisation = normalisation
        self.head = head
        self.head_after = len(self.names) if head_after is None else head_after
        self._frozen = 0

    def __len__(self) -> int:
        return len(self.names)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the stages that ``split`` freed; those that it froze stay in eval mode."""
        super().train(mode)
        for stage in self.stages[: self._frozen]:
            stage.train(False)
        return self

    def forward(self, pixels: Tensor) -> Tensor:
        """Return features, float32 [N, D], of pixels, uint8 [N, H, W, C]."""
        return self.run(pixels)

    def run(self, value: Tensor, start: int = 0, stop: int | None = None) -> Tensor:
        """Run stages ``start`` up to, without, ``stop`` (default: to the end).

        Args:
            value: pixels where ``start`` is 0, else the tensor that stage ``start - 1`` left.
            start: first stage to run, from 0.
            stop: first stage not to run.
        """
        for stage in self.stages[start:stop]:
            value = stage(value)
        return value

    def logits(self, pixels: Tensor) -> Tensor:
        """Return the network's own logits, float32 [N, classes], of pixels, uint8 [N, H, W, C].

        Raises:
            InvalidValue: the source came without a head.
        """
        if self.head is None:
            raise InvalidValue(f"{self.architecture} has no output layer of its own; give it a head first")
        logits: Tensor = self.head(self.run(pixels, stop=self.head_after))
        return logits

    def depths(self) -> tuple[int, ...]:
        """Return the boundaries at which a retrained tail may start, the topmost first.

        ``depths()[d - 1]`` is the ``k`` to split at for the last ``d`` stages that hold layers;
        stages with no more than pooling and norms are not counted, and go with the one below.
        """
        kernels = [any(parameter.ndim > 1 for parameter in stage.parameters()) for stage in self.stages]
        return tuple(k for k, layered in reversed(list(enumerate(kernels))) if layered)

    def split(self, k: int) -> Split:
        """Freeze the first ``k`` stages and free the rest.

        Sets ``requires_grad`` and the training mode of the shared modules.

        Args:
            k: number of frozen stages, 0 (everything is trained) to ``len(self)``.

        Raises:
            InvalidValue: there are fewer stages.
        """
        if not 0 <= k <= len(self):
            raise InvalidValue(f"{self.architecture} has {len(self)} stages to freeze, got {k}")
        self._frozen = k
        named = list(zip(self.names, self.stages, strict=True))
        lower = Frozen(_sequence(named[:k]))
        upper = nn.Sequential(_sequence(named[k:]))
        upper.requires_grad_(True)
        upper.train(True)
        return Split(lower, upper)


def _sequence(named: Sequence[tuple[str, nn.Module]]) -> "OrderedDict[str, nn.Module]":
    """Name stages for ``nn.Sequential``, whose keys may hold no dots."""
    return OrderedDict((name.replace(".", "/"), stage) for name, stage in named)
