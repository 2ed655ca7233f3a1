"""What a technique works with, whatever it does."""

from dataclasses import dataclass, field

import torch

from adapters.features import FeatureStore, MemoryStore
from adapters.progress import Progress, Silent
from adapters.training import Callback


def best_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True, slots=True)
class Workshop:
    """Place, tools and onlookers of a fit.

    Attributes:
        seed: of everything random; equal seeds give equal results on a CPU.
        device: where networks run.
        progress: who watches.
        store: where features already computed are kept.
        callbacks: hooks into the training loop, in the order in which they are called.
    """

    seed: int = 0
    device: torch.device = field(default_factory=best_device)
    progress: Progress = field(default_factory=Silent)
    store: FeatureStore = field(default_factory=MemoryStore)
    callbacks: tuple[Callback, ...] = ()
