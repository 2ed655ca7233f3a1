"""Writes ``torchvision_cuts.json`` and ``timm_cuts.json``: ``python -m adapters.sources.pinning``.

Run it when torchvision or timm lists a new model. Existing entries are kept as they are: cuts that
moved would end the sharing between old versions and new ones.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from torch import nn
from torch.overrides import TorchFunctionMode
from torchvision.models import WeightsEnum

from adapters.sources.cut_search import propose_cuts
from adapters.sources.pinned import Pinned, read_pinned, write_pinned
from adapters.sources.timm_cuts import landmarks
from adapters.sources.torchvision import build
from registry.errors import InvalidValue

FOLDER = Path(__file__).parent
TORCHVISION, TIMM = "torchvision_cuts.json", "timm_cuts.json"

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


def torchvision_entries(known: Mapping[str, Pinned]) -> Iterator[tuple[str, Pinned]]:
    """Propose cuts for torchvision's models that have none yet."""
    for name in torchvision.models.list_models(module=torchvision.models):
        if name not in known:
            choices = torchvision.models.get_model_weights(name)
            weights = choices.DEFAULT
            network = sketch(name, weights)
            (crop,) = weights.transforms().crop_size
            proposal = propose_cuts(network, torch.empty(2, 3, crop, crop, device="meta"))
            smallest = max(LEAST_SIDE, min(choice.meta["min_size"][0] for choice in choices))
            yield name, Pinned(proposal.cuts, proposal.head, proposal.dimension, smallest)


def timm_entries(known: Mapping[str, Pinned]) -> Iterator[tuple[str, Pinned]]:
    """Read the cuts of timm's pretrained models that have none yet; leave out what cannot be cut."""
    for name in sorted({model.partition(".")[0] for model in timm.list_pretrained()} - known.keys()):
        with torch.device("meta"), suppress(InvalidValue):
            network = timm.create_model(name, pretrained=False)
            yield name, landmarks(network, timm.get_pretrained_cfg(name))


def main() -> None:
    """Pin the cuts of the models that have none yet."""
    for file, entries in ((TORCHVISION, torchvision_entries), (TIMM, timm_entries)):
        known = read_pinned(file)
        FOLDER.joinpath(file).write_text(write_pinned({**known, **dict(entries(known))}))


if __name__ == "__main__":
    main()
