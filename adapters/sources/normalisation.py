"""The way from uint8 pixels to a network's first float tensor: the first nodes of every trunk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from registry.errors import InvalidValue


@dataclass(frozen=True, slots=True)
class Normalisation:
    """What a channel's values, scaled to 0..1, are centred on and divided by.

    Attributes:
        mean: per channel, in units of the full range.
        std: per channel, in units of the full range, above zero.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise InvalidValue(
                f"expected one mean and one std above 0 for each channel, got {self.mean} and {self.std}"
            )

    @classmethod
    def of(cls, mean: Sequence[float], std: Sequence[float]) -> Self:
        """Return the normalisation with these statistics, from any sequence of numbers."""
        return cls(tuple(float(value) for value in mean), tuple(float(value) for value in std))

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.mean)


class Normalise(nn.Module):
    """Turns pixels, uint8 [N, H, W, C], into float32 [N, C, H, W], normalised.

    One multiplication and one addition: ``pixels * 1 / (255 std) - mean / std``, the factors
    computed in double precision.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        mean = torch.tensor(normalisation.mean, dtype=torch.float64).reshape(-1, 1, 1)
        std = torch.tensor(normalisation.std, dtype=torch.float64).reshape(-1, 1, 1)
        # Not persistent: they belong to the source's data, not to its weights.
        self.register_buffer("scale", (1 / (255 * std)).float(), persistent=False)
        self.register_buffer("shift", (-mean / std).float(), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalise pixels, uint8 [N, H, W, C], into float32 [N, C, H, W]."""
        channels_first = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        return channels_first * self.scale + self.shift
