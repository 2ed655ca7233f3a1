"""Readout: a stage's output as one vector, the mean over the positions of a map or the tokens of a text."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from adapters.sources.stages import Stages

Layout = Literal["vector", "tokens", "channels-first", "channels-last"]
"""The layout of a stage's output: [N, D], [N, T, D], [N, D, H, W] or [N, H, W, D]."""

MASK = "attention_mask"


def layouts(stages: Stages) -> tuple[Layout, ...]:
    """Return the layout of each stage's output, found with an example."""
    return tuple(_layout(shape) for shape in stages.shapes())


def _layout(shape: tuple[int, ...]) -> Layout:
    if len(shape) == 1:
        return "vector"
    if len(shape) == 2:
        return "tokens"
    # Maps are usually square; transformers with windows (Swin) have channels last.
    square_first, square_last = shape[0] == shape[1], shape[1] == shape[2]
    return "channels-last" if square_first and not square_last else "channels-first"


class Pool(nn.Module):
    """The mean of a stage's output: [N, ...] to [N, D].

    Args:
        layout: its layout.
        masked: whether a mask, int64 [N, T], selects the tokens.
    """

    def __init__(self, layout: Layout, masked: bool = False) -> None:
        super().__init__()
        self.layout = layout
        self.masked = masked and layout == "tokens"

    def forward(self, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the mean over positions or tokens; a vector is unchanged."""
        if self.layout == "vector":
            return value
        if self.layout == "tokens":
            if not self.masked or mask is None:
                return value.mean(1)
            counted = mask.unsqueeze(-1).to(value.dtype)
            return (value * counted).sum(1) / counted.sum(1).clamp(min=1.0)
        return value.mean((2, 3) if self.layout == "channels-first" else (1, 2))


class Readout(nn.Module):
    """Features from several stages: their concatenated means.

    Takes the stages' outputs in order and, if a text's tokens are averaged, their mask last.

    Args:
        pools: the mean for each output.
    """

    def __init__(self, pools: Sequence[Pool]) -> None:
        super().__init__()
        self.pools = nn.ModuleList(pools)

    @property
    def masked(self) -> bool:
        """Whether it takes a mask."""
        return any(pool.masked for pool in self.pools)

    def forward(self, *values: Tensor) -> Tensor:
        """Return features, float32 [N, sum of all D]."""
        mask = values[-1] if self.masked else None
        carried = values[: len(self.pools)]
        means = [pool(value, mask) for pool, value in zip(self.pools, carried, strict=True)]
        return means[0] if len(means) == 1 else torch.cat(means, dim=1)


def readout(stages: Stages, boundaries: Sequence[int]) -> Readout:
    """Return the readout of the stages at some boundaries.

    Args:
        stages: the network.
        boundaries: 1 to ``len(stages)``: ``b`` means the output of stage ``b - 1``.
    """
    layout = layouts(stages)
    masked = any(spec.name == MASK for spec in stages.inputs)
    return Readout([Pool(layout[boundary - 1], masked) for boundary in boundaries])
