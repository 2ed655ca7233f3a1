"""Networks of pictures that are traced down to their cut points."""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import nn

from adapters.sources.normalisation import Normalisation
from adapters.sources.source import Source
from adapters.sources.stages import Stages
from adapters.sources.staging import stage


@dataclass(frozen=True, kw_only=True)
class TracedSource(Source):
    """A network that takes float32 [N, C, H, W] and returns logits, and the paths at which it is cut.

    Attributes:
        head: module path of the output layer.
    """

    normalisation: Normalisation
    head: str

    @abstractmethod
    def drawn(self) -> nn.Module:
        """Return the network, initialised at random."""

    @abstractmethod
    def pretrained(self) -> nn.Module:
        """Return the network with its weights.

        Raises:
            SourceUnavailable: they are not on this machine.
        """

    def load(self, seed: int | None = None) -> Stages:
        """Return the network in stages; see :meth:`Source.load`."""
        if seed is None:
            return self.staged(self.pretrained())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self.drawn()
        return self.staged(network)

    def staged(self, network: nn.Module, input_size: tuple[int, ...] | None = None) -> Stages:
        """Cut a network of this source's design; see :func:`adapters.sources.staging.stage`.

        Args:
            network: the network, whatever its weights.
            input_size: (height, width) that the weights were made for, where it is not the source's.
        """
        stages = stage(
            network,
            self.cuts,
            self.head,
            architecture=self.architecture,
            features_dim=self.dimension,
            input_size=input_size or self.input_size,
            normalisation=self.normalisation,
        )
        if not self.labels:
            stages.head = None
        return stages
