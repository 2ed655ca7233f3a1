"""The networks that are measured: exported as the product exports them, with random weights or their own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import torch
from torch import nn

from adapters.export.heads import linear_head
from adapters.sources.source import Source
from adapters.sources.stages import Stages
from benchmarks.made import Piece, register
from benchmarks.photographs import photograph
from benchmarks.subject import LABELS, half, trunk
from registry.digests import Digest
from registry.manifest import FEATURES, LOGITS, Manifest, Origin
from registry.recipe import ImageRecipe
from registry.registry import Registry
from registry.segments import Linear, Node, merge, read_linear

_SETTLING_ROWS = 16
"""Pictures that batch norms of random weights take their statistics from."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network in segments, and a linear head of random weights on it.

    Attributes:
        source: where it comes from.
        trunk: its segments up to the features.
        head: the segment on them.
        pixels: decoded pictures, uint8 [rows, height, width, channels].
    """

    source: Source
    trunk: tuple[Piece, ...] = field(repr=False)
    head: Piece = field(repr=False)
    pixels: np.ndarray = field(repr=False)

    @classmethod
    def of(cls, source: Source, pixels: np.ndarray, seed: int | None) -> Self:
        """Load and export a network; None as the seed takes its own weights, which must be at hand."""
        stages = source.load(seed)
        if seed is not None:
            settle(stages, pixels[:_SETTLING_ROWS])
        segments = tuple(trunk(stages))
        return cls(source, segments, _head(segments[-1], source.dimension, seed or 0), pixels)

    @property
    def spec(self) -> str:
        """What names it."""
        return self.source.spec

    @property
    def port(self) -> str:
        """The name of its input."""
        return self.source.recipe.fields[0].name

    def feeds(self, rows: int) -> dict[str, np.ndarray]:
        """Return its input for some rows."""
        return {self.port: self.pixels[:rows]}

    def whole(self) -> bytes:
        """Return features and logits as one model."""
        head = f"{self.head.name}:{LOGITS}"
        return merge(_nodes((*self.trunk, self.head)), {FEATURES: self._features, LOGITS: head})

    def features(self) -> bytes:
        """Return the trunk as one model."""
        return merge(_nodes(self.trunk), {FEATURES: self._features})

    def linear(self) -> Linear:
        """Return the head as arrays."""
        linear = read_linear(self.head.model)
        assert linear is not None
        return linear

    @property
    def _features(self) -> str:
        return f"{self.trunk[-1].name}:{FEATURES}"


def pictures(source: Source, rows: int, seed: int) -> np.ndarray:
    """Return synthetic photographs as the source's recipe decodes them.

    Raises:
        SystemExit: the source takes no pictures.
    """
    if not isinstance(source.recipe, ImageRecipe):
        raise SystemExit(f"{source.spec} takes no pictures, and pictures are what is measured here")
    return np.stack([source.recipe.decode(photograph(seed + number)) for number in range(rows)])


def settle(stages: Stages, pixels: np.ndarray) -> None:
    """Give batch norms the statistics of some pictures.

    Untrained, they would let values grow from block to block until float16 could not hold them.
    """
    norms = [module for module in stages.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        stages(torch.from_numpy(pixels))
    for norm in norms:
        norm.eval()


def on_one_trunk(network: Network, count: int) -> Iterator[list[Piece]]:
    """Yield versions that differ in their heads."""
    for number in range(count):
        yield [*network.trunk, _head(network.trunk[-1], network.source.dimension, number)]


def sharing_half(network: Network, other: Network) -> Iterator[list[Piece]]:
    """Yield two versions whose lower stages are the same and whose upper ones are not."""
    cut = half(len(network.trunk))
    yield [*network.trunk, network.head]
    yield [*network.trunk[:cut], *other.trunk[cut:], other.head]


def registered(
    registry: Registry, source: Source, target: str, versions: Sequence[Sequence[Piece]]
) -> Mapping[Digest, Manifest]:
    """Register versions, each under a target of its own; return their manifests by their digests."""
    manifests = {}
    for number, pieces in enumerate(versions):
        version = register(
            registry,
            f"{target}-{number:02}",
            pieces,
            recipe=source.recipe,
            origin=Origin(source.spec, source.architecture, pieces[0].weights, source.licence),
            dimension=source.dimension,
            labels=LABELS,
            pooling=source.pooling,
            seed=number,
        )
        manifests[version.digest] = registry.manifest(version)
    return manifests


def _head(below: Piece, dimension: int, seed: int) -> Piece:
    """Return a linear head of random weights."""
    random = np.random.default_rng(seed)
    weight = random.standard_normal((LABELS, dimension), np.float32) / np.float32(dimension**0.5)
    model = linear_head(weight, np.zeros(LABELS, np.float32))
    return Piece("head", model, Digest.of(model), {FEATURES: f"{below.name}:{FEATURES}"}, (LOGITS,))


def _nodes(pieces: Sequence[Piece]) -> list[Node]:
    return [Node(each.name, each.model, each.inputs) for each in pieces]
