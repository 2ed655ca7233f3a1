"""Freezing of stages, and the proof that they did not change.

``requires_grad = False`` does not freeze buffers: batch-norm statistics change with every forward pass in
training mode. So frozen stages are kept in eval mode, and every parameter and buffer is hashed before and
after.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Self

import torch
from torch import Tensor, nn

from adapters.sources.stages import Split, Stages
from registry.digests import Digest
from registry.errors import FrozenPartMoved


@dataclass(frozen=True, slots=True)
class FreezeProof:
    """The state of frozen stages at one time.

    Attributes:
        tensors: (name, digest) of every parameter and buffer, in order.
    """

    tensors: tuple[tuple[str, Digest], ...]

    @classmethod
    def of(cls, stages: Stages, frozen: int) -> Self:
        """Hash the parameters and buffers of the first ``frozen`` stages."""
        named = zip(stages.names[:frozen], stages.stages[:frozen], strict=True)
        return cls(
            tuple(
                (f"{stage}: {name}", tensor_digest(tensor))
                for stage, module in named
                for name, tensor in _state(module)
            )
        )

    def check(self, later: "FreezeProof") -> None:
        """Compare with the state at a later time.

        Raises:
            FrozenPartMoved: a tensor was changed, added or removed; the message names the first ones.
        """
        before, after = dict(self.tensors), dict(later.tensors)
        moved = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        if moved:
            shown = ", ".join(moved[:3]) + (f" and {len(moved) - 3} more" if len(moved) > 3 else "")
            raise FrozenPartMoved(
                f"expected the frozen stages not to change, but {shown} changed; "
                "something ran them in training mode or wrote to them, so nothing is registered"
            )


@contextmanager
def frozen(stages: Stages, count: int) -> Iterator[Split]:
    """Freeze the first ``count`` stages for a block, and check at its end that they did not change.

    Returns the frozen and the trainable stages. Afterwards the stages are in eval mode in any case.

    Raises:
        FrozenPartMoved: a frozen parameter or buffer changed inside the block.
    """
    before = FreezeProof.of(stages, count)
    try:
        yield stages.split(count)
    finally:
        stages.train(False)
    before.check(FreezeProof.of(stages, count))


def tensor_digest(tensor: Tensor) -> Digest:
    """Return the digest of a tensor's dtype, shape and values."""
    values = tensor.detach().cpu().contiguous()
    head = f"{values.dtype} {list(values.shape)}\n".encode()
    return Digest.of(head, values.reshape(-1).view(torch.uint8).numpy().data)


def _state(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters and buffers, including non-persistent ones."""
    return chain(module.named_parameters(), module.named_buffers())
