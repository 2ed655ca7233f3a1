"""``lora``: low-rank updates beside frozen weights, merged into them before export."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from adapters.configuration import check
from adapters.datasets.dataset import Dataset
from adapters.freezing import tensor_digest
from adapters.sources.source import Source
from adapters.sources.stages import StageRun, Stages
from adapters.techniques.context import Context
from adapters.techniques.fitted import Fitted
from adapters.techniques.trained import Trained
from registry.digests import Digest
from registry.errors import FrozenPartMoved, InvalidSetting


@dataclass(frozen=True, kw_only=True)
class Lora(Trained):
    """Trains low-rank updates of every linear layer, and the head (Hu et al., "LoRA", 2021).

    Of a stage without linear layers its convolutions are updated; the projections inside torch's own
    multi-head attention, which it does not call as layers, are not. The head starts solved and is
    trained along. The updates are added to the weights before export, so that what is served is the
    source's network with other numbers.

    Attributes:
        rank: of the updates (8: peft's default).
        alpha: updates are scaled by alpha / rank.
        dropout: share of an update's inputs that is dropped in training.
        depth: update only the last stages with layers; None updates all.
    """

    rank: int = 8
    alpha: float = 8.0
    dropout: float = 0.0
    depth: int | None = None
    optimiser: Literal["auto", "sgd", "adamw"] = "adamw"
    batch_norm: Literal["learn", "keep"] = "keep"
    start: Literal["zero", "ridge", "logistic"] = "logistic"
    head_factor: float = 1.0

    name: ClassVar[str] = "lora"
    rates: ClassVar[Mapping[str, float]] = {"sgd": 0.1, "adamw": 1e-3}
    """Ten times those of fine-tuning ("LoRA Without Regret", Thinking Machines, 2025)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(1 <= self.rank <= 1024, self.name, "rank", "1 to 1024", self.rank)
        check(self.alpha > 0, self.name, "alpha", "above 0", self.alpha)
        check(0 <= self.dropout < 1, self.name, "dropout", "a share from 0 up to 1", self.dropout)
        check(
            self.depth is None or self.depth >= 1,
            self.name,
            "depth",
            "1 or more stages, or absent",
            self.depth,
        )
        check(self.unfreeze == "at-once", self.name, "unfreeze", "at-once", self.unfreeze)
        check(self.batch_norm == "keep", self.name, "batch_norm", "keep", self.batch_norm)

    def check_source(self, source: Source, stages: Stages) -> None:
        """Refuse a depth that the source does not have, and a source without a layer that can be updated."""
        boundaries = _boundaries(stages)
        if not boundaries or (self.depth or 1) > len(boundaries):
            raise InvalidSetting(
                f"{source.spec} has {len(boundaries)} stages to update, got a depth of {self.depth or 1}"
            )

    def fit(self, source: Source, dataset: Dataset, context: Context) -> Fitted:
        """Train the updates and the head, then merge.

        Raises:
            InvalidSetting: there are fewer stages, or none has a layer that can be updated.
            FrozenPartMoved: a weight that was to be updated from beside it moved itself.
        """
        stages = source.load()
        self.check_source(source, stages)
        return self.carry(stages, self.boundary(stages), dataset, context, self.depth)

    def boundary(self, stages: Stages) -> int:
        """Return how many stages lie below the lowest one that is updated."""
        boundaries = _boundaries(stages)
        return boundaries[(self.depth or len(boundaries)) - 1]

    @contextmanager
    def around(self, upper: StageRun, seed: int) -> Iterator[None]:
        """Put updates beside the weights for a block that trains, then merge them."""
        from peft import LoraConfig, inject_adapter_in_model

        targets = [f"{name}.{path}" for name, stage in upper.stages.items() for path in _targets(stage)]
        config = LoraConfig(
            r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, target_modules=targets, bias="none"
        )
        # An update starts at zero, but one of its two factors is drawn from torch's global generator.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inject_adapter_in_model(config, upper.stages)
        for name, parameter in upper.stages.named_parameters():
            parameter.requires_grad_("lora_" in name)
        before = _base(upper.stages)
        yield
        if before != _base(upper.stages):
            raise FrozenPartMoved("a weight that LoRA leaves alone moved while its update was trained")
        _merge(upper.stages)


def _boundaries(stages: Stages) -> list[int]:
    """Return the boundaries below stages with layers that can be updated, the topmost first."""
    return [k for k in stages.depths() if _targets(stages.stages[k])]


def _targets(stage: nn.Module) -> list[str]:
    """Return the paths of the layers in a stage that can be updated."""
    modules = dict(stage.named_modules())
    inside = tuple(
        f"{path}." for path, module in modules.items() if isinstance(module, nn.MultiheadAttention)
    )
    linear = [
        path
        for path, module in modules.items()
        if path and isinstance(module, nn.Linear) and not (inside and path.startswith(inside))
    ]
    if linear:
        return linear
    return [
        path
        for path, module in modules.items()
        if path and isinstance(module, nn.Conv2d) and module.groups == 1
    ]


def _base(stages: nn.Module) -> dict[str, Digest]:
    """Return the digests of everything but the updates."""
    named = [*stages.named_parameters(), *stages.named_buffers()]
    return {name: tensor_digest(tensor) for name, tensor in named if "lora_" not in name}


def _merge(stages: nn.Module) -> None:
    """Add every update to its weight, and put the layer back in its place."""
    from peft.tuners.lora import LoraLayer

    for path, module in list(stages.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge(safe_merge=True)
            holder, _, name = path.rpartition(".")
            setattr(stages.get_submodule(holder), name, module.get_base_layer())
