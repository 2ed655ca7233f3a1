"""From what a stage leaves to one vector: the mean over the places of a map or the tokens of a text."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from adapters.sources.stages import Stages

Layout = Literal["vector", "tokens", "channels-first", "channels-last"]
"""What the dimensions of a carried tensor are: [N, D], [N, T, D], [N, D, H, W] or [N, H, W, D]."""

MASK = "attention_mask"


def layouts(stages: Stages) -> tuple[Layout, ...]:
    """Return the layout of what each stage leaves, as an example shows it."""
    return tuple(_layout(shape) for shape in stages.shapes())


def _layout(shape: tuple[int, ...]) -> Layout:
    if len(shape) == 1:
        return "vector"
    if len(shape) == 2:
        return "tokens"
    # Places are square as a rule; transformers with windows (Swin) put the channels last.
    square_first, square_last = shape[0] == shape[1], shape[1] == shape[2]
    return "channels-last" if square_first and not square_last else "channels-first"


class Pool(nn.Module):
    """The mean of a carried tensor: [N, ...] to [N, D].

    Args:
        layout: what its dimensions are.
        masked: whether a mask, int64 [N, T], says which tokens count.
    """

    def __init__(self, layout: Layout, masked: bool = False) -> None:
        super().__init__()
        self.layout = layout
        self.masked = masked and layout == "tokens"

    def forward(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the mean over places or tokens; a vector as it is."""
        if self.layout == "vector":
            return value
        if self.layout == "tokens":
            if not self.masked or mask is None:
                return value.mean(1)
            counted = mask.unsqueeze(-1).to(value.dtype)
            return (value * counted).sum(1) / counted.sum(1).clamp(min=1.0)
        return value.mean((2, 3) if self.layout == "channels-first" else (1, 2))


class Readout(nn.Module):
    """Features from several stages: their means, one behind the other.

    Takes the carried tensors in order and, where a text's tokens are averaged, their mask last.

    Args:
        pools: for each carried tensor how it is averaged.
    """

    def __init__(self, pools: Sequence[Pool]) -> None:
        super().__init__()
        self.pools = nn.ModuleList(pools)

    @property
    def masked(self) -> bool:
        """Whether it takes a mask."""
        return any(pool.masked for pool in self.pools)

    def forward(self, *values: Tensor) -> Tensor:
        """Return features, float32 [N, D of all]."""
        mask = values[-1] if self.masked else None
        carried = values[: len(self.pools)]
        means = [pool(value, mask) for pool, value in zip(self.pools, carried, strict=True)]
        return means[0] if len(means) == 1 else torch.cat(means, dim=1)


def readout(stages: Stages, boundaries: Sequence[int]) -> Readout:
    """Return the readout of what the stages below some boundaries leave.

    Args:
        stages: the network.
        boundaries: 1 to ``len(stages)``: ``b`` stands for what stage ``b - 1`` leaves.
    """
    layout = layouts(stages)
    masked = any(spec.name == MASK for spec in stages.inputs)
    return Readout([Pool(layout[boundary - 1], masked) for boundary in boundaries])
