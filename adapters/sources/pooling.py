"""From a text's tokens to one vector: how a source pools, and its last stages."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

KINDS = ("mean", "cls", "max")
PENULTIMATE = "penultimate"
"""What a classifier puts between the first token and its output layer."""

NORM = "norm"
"""Name of a last stage that scales features to length 1."""

_SUFFIX = re.compile(r"@(?:(?P<kind>mean|cls|max)(?P<then>\+l2)?|(?P<alone>l2))$")


@dataclass(frozen=True, slots=True)
class Pooling:
    """How the tokens' vectors become features.

    Attributes:
        kind: ``mean`` of the tokens that count, ``cls`` (the first token's), ``max`` of each
            component, or ``penultimate``.
        l2: whether features are then scaled to length 1.
    """

    kind: str = "mean"
    l2: bool = False

    def __str__(self) -> str:
        return f"{self.kind}+l2" if self.l2 else self.kind

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the last stages; another pooling is another stage, though neither has weights."""
        return (f"pool-{self.kind}", *((NORM,) if self.l2 else ()))

    @property
    def norm(self) -> str:
        """``l2`` or ``none``."""
        return "l2" if self.l2 else "none"

    def stages(self) -> Iterator[tuple[str, nn.Module, tuple[str, ...]]]:
        """Yield name, module and sides of the last stages, without those of ``penultimate``."""
        yield (
            self.names[0],
            {"mean": MeanPool, "cls": FirstPool, "max": MaxPool}[self.kind](),
            _SIDES[self.kind],
        )
        if self.l2:
            yield NORM, UnitLength(), ()

    @classmethod
    def divide(cls, rest: str) -> tuple[str, Self | None]:
        """Divide ``NAME[@pooling[+l2]]`` into the name and the pooling, None where none is given.

        ``@l2`` alone is ``@mean+l2``. A name may hold ``@`` itself, as long as no pooling follows.
        """
        found = _SUFFIX.search(rest)
        if found is None:
            return rest, None
        return rest[: found.start()], cls(found["kind"] or "mean", bool(found["then"] or found["alone"]))


_SIDES: dict[str, tuple[str, ...]] = {"mean": ("attention_mask",), "cls": (), "max": ("attention_mask",)}


class MeanPool(nn.Module):
    """Averages the vectors of the tokens that count; a text without any becomes zeros."""

    def forward(self, h: Tensor, attention_mask: Tensor) -> Tensor:
        """Pool float32 [N, S, D] under a mask int64 [N, S] into [N, D]."""
        weights = attention_mask.unsqueeze(-1).to(h.dtype)
        return (h * weights).sum(1) / weights.sum(1).clamp(min=1.0)


class MaxPool(nn.Module):
    """Takes the largest value of every component over the tokens that count; without any, zeros."""

    def forward(self, h: Tensor, attention_mask: Tensor) -> Tensor:
        """Pool float32 [N, S, D] under a mask int64 [N, S] into [N, D]."""
        counts = attention_mask.unsqueeze(-1) > 0
        largest = h.masked_fill(~counts, torch.finfo(h.dtype).min).amax(1)
        return largest * counts.any(1).to(h.dtype)


class FirstPool(nn.Module):
    """Takes the first token's vector."""

    def forward(self, h: Tensor) -> Tensor:
        """Pool float32 [N, S, D] into [N, D]."""
        return h[:, 0]


class UnitLength(nn.Module):
    """Scales vectors to length 1; zeros stay zeros."""

    def forward(self, h: Tensor) -> Tensor:
        """Scale float32 [N, D]."""
        return functional.normalize(h, dim=-1, eps=1e-12)
