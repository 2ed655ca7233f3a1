"""Writes ``torchvision_cuts.json``: ``python -m adapters.sources.pinning``.

Run it when torchvision lists a new model. Existing entries are kept as they are: cuts that moved
would end the sharing between old versions and new ones.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision.models import WeightsEnum

from adapters.sources.proposal import propose_cuts
from adapters.sources.torchvision import build

PINNED = Path(__file__).with_name("torchvision_cuts.json")

LEAST_SIDE = 32
"""Smallest input worth running, in pixels: what most networks reduce to one place."""


def sketch(name: str, weights: WeightsEnum) -> nn.Module:
    """Return the network that some weights fit, on the meta device: its design, no memory for its weights."""
    with _Weightless():
        return build(name, weights).to("meta")


class _Weightless(TorchFunctionMode):
    """Makes uninitialised tensors, which is what layers make their weights of, on the meta device.

    Not every tensor: a network such as RegNet computes its own widths with small ones.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return func(*args, **{**(kwargs or {}), **({"device": "meta"} if func is torch.empty else {})})


def main() -> None:
    """Propose cuts for the models that have none yet."""
    entries = json.loads(PINNED.read_text()) if PINNED.exists() else {}
    for name in torchvision.models.list_models(module=torchvision.models):
        if name not in entries:
            choices = torchvision.models.get_model_weights(name)
            weights = choices.DEFAULT
            network = sketch(name, weights)
            (crop,) = weights.transforms().crop_size
            proposal = propose_cuts(network, torch.empty(2, 3, crop, crop, device="meta"))
            entries[name] = {
                "cuts": list(proposal.cuts),
                "head": proposal.head,
                "dimension": proposal.dimension,
                "smallest": max(LEAST_SIDE, min(choice.meta["min_size"][0] for choice in choices)),
            }
    lines = (f"  {json.dumps(name)}: {json.dumps(entries[name])}" for name in sorted(entries))
    PINNED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
