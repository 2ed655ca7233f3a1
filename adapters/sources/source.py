"""The interface of sources: data about a pretrained network, and a loader for it."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from adapters.sources.normalisation import Normalisation
from adapters.sources.reference import Reference
from adapters.sources.sketch import FeatureSketch
from adapters.sources.stages import Stages
from registry.digests import Digest
from registry.errors import InvalidValue
from registry.names import check_task
from registry.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Source(ABC):
    """A pretrained network to start from.

    Attributes:
        spec: what names it on the command line, ``provider:model`` or ``provider:model@weights``.
        architecture: name of the network's design; equal architectures have equal stages.
        task: the task it learnt, such as ``imagenet-1k``; None where its provider does not say.
        labels: that task's labels in the order of the logits; empty where there are none.
        recipe: the way from raw input to the first tensor.
        cuts: names of the stages, from the input on; the last one leaves features.
        dimension: length of a feature vector.
        normalisation: what the first stage begins with; None for texts.
        input_size: (height, width) in pixels that the weights were made for; empty for texts.
        smallest: side in pixels of the smallest square input that the network takes; 1 for texts.
        licence: the weights' licence, or None where the provider does not state one.
        pooling: how a map becomes features, part of the space: ``penultimate`` (whatever the
            network itself puts below its output layer), ``avg``, ``cls`` …
        states: for the weights digests of stages that only the registry has, the digest of the
            blob that holds them.
        parent: digest of the registered version that the source is, or None.
        norm: ``l2`` where the last stage scales features to length 1, else ``none``.
    """

    spec: str
    architecture: str
    task: str | None
    labels: tuple[str, ...]
    recipe: Recipe
    cuts: tuple[str, ...]
    dimension: int
    normalisation: Normalisation | None = None
    input_size: tuple[int, ...] = ()
    smallest: int = 1
    licence: str | None = None
    pooling: str = "penultimate"
    norm: str = "none"
    states: Mapping[Digest, Digest] = field(default_factory=dict)
    parent: Digest | None = None

    def __post_init__(self) -> None:
        if self.task is not None:
            check_task(self.task)
        if not self.cuts or len(set(self.cuts)) != len(self.cuts):
            raise InvalidValue(f"{self.spec}: expected at least one cut point, each once, got {self.cuts}")

    @property
    def modality(self) -> str:
        """``image`` or ``text``: what the recipe prepares."""
        return self.recipe.modality

    @abstractmethod
    def weights_at_hand(self) -> bool:
        """Say whether ``load`` would find the pretrained weights on this machine."""

    def remarks(self) -> tuple[str, ...]:
        """Return what a person should know of its files before anything is made of them, a sentence each.

        Raises:
            SourceUnavailable: they cannot be used.
        """
        return ()

    def outputs(self) -> int | None:
        """Return how many outputs the network's own output layer has; None where there is none.

        Raises:
            SourceUnavailable: that is in its files, and they cannot be used.
        """
        return len(self.labels) or None

    def sketch(self) -> FeatureSketch | None:
        """Return mean and covariance of its features on what it learnt from, where they were stored.

        Raises:
            InvalidValue: what was stored is no sketch.
        """
        return None

    def reference(self) -> Reference | None:
        """Return the source as its provider's own code runs it, to be verified against; None where there is none.

        Networks that come with this project, and versions in a registry, have no other code.
        """
        return None

    @abstractmethod
    def load(self, seed: int | None = None) -> Stages:
        """Return the network, in eval mode, float32, on the CPU.

        Args:
            seed: None for the pretrained weights; a number for random ones of the same
                architecture, drawn from it by the network's own initialisation, whatever the
                state of torch's global generator (which is left as it was).

        Raises:
            SourceUnavailable: the weights are not on this machine; the message names the file and the
                folder where it was looked for. Nothing is ever downloaded.
        """


class SourceProvider(ABC):
    """A family of sources that are named alike, ``scheme:model``.

    Attributes:
        scheme: the word before the colon.
    """

    scheme: str

    @abstractmethod
    def specs(self) -> Iterable[str]:
        """Return the spec of every model on offer, each with its default weights, in order."""

    @abstractmethod
    def source(self, spec: str) -> Source:
        """Return the source that a spec names.

        Raises:
            UnknownSource: there is no such model, or it has no such weights.
        """
