"""Networks of pictures that are traced down to their cut points."""

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from adapters.sources.normalisation import Normalisation
from adapters.sources.own_weights import OwnWeights, fill_own
from adapters.sources.partition import stage
from adapters.sources.source import Source
from adapters.sources.stages import Stages


@dataclass(frozen=True, kw_only=True)
class TracedSource(Source):
    """A network that takes float32 [N, C, H, W] and returns logits, and the paths at which it is cut.

    Attributes:
        head: module path of the output layer.
        file: a file of weights of one's own, which claims no task, labels or licence; None for published ones.
        configuration: name of the published weights whose preprocessing and design such a file is given.
    """

    normalisation: Normalisation
    head: str
    file: Path | None = None
    configuration: str

    @abstractmethod
    def drawn(self) -> nn.Module:
        """Return the network, initialised at random."""

    @abstractmethod
    def pretrained(self) -> nn.Module:
        """Return the network with its published weights.

        Raises:
            SourceUnavailable: they are not on this machine.
        """

    def renamed(self, name: str) -> str | None:
        """Return the network's name for one in a file of weights; None for what only training uses."""
        return name

    def own(self) -> OwnWeights:
        """Return the network with the weights of ``file``.

        Raises:
            SourceUnavailable: they are not those of this network, or cannot be read.
        """
        assert self.file is not None, "callers looked"
        with torch.random.fork_rng(devices=[]):
            network = self.drawn()
        return fill_own(self.file, network, self.head, design=self.architecture, rename=self.renamed)

    def own_network(self) -> nn.Module:
        """Return the network of ``own``."""
        return self.own().network

    def remarks(self) -> tuple[str, ...]:
        """Return how a file of one's own was read, and what it was taken for; see :meth:`Source.remarks`."""
        if self.file is None:
            return ()
        size = " x ".join(map(str, reversed(self.input_size)))
        taken = f"{self.file.name}: preprocessing of {self.configuration} ({size} pixels); licence unknown"
        return (*self._read[1], taken)

    def outputs(self) -> int | None:
        """Return how many outputs its own output layer has; see :meth:`Source.outputs`."""
        return super().outputs() if self.file is None else self._read[0]

    @cached_property
    def _read(self) -> tuple[int | None, tuple[str, ...]]:
        """Outputs and remarks of ``file``, without its weights."""
        own = self.own()
        return own.outputs, own.remarks

    def load(self, seed: int | None = None) -> Stages:
        """Return the network in stages; see :meth:`Source.load`."""
        if seed is None and self.file is not None:
            own = self.own()
            stages = self.staged(own.network)
            if own.outputs is None:
                stages.head = None
            return stages
        if seed is None:
            return self.staged(self.pretrained())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self.drawn()
        return self.staged(network)

    def staged(self, network: nn.Module, input_size: tuple[int, ...] | None = None) -> Stages:
        """Cut a network of this source's design; see :func:`adapters.sources.partition.stage`.

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
        if not self.labels and self.file is None:
            stages.head = None
        return stages
