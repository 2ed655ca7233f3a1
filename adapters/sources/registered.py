"""``registry:`` versions of this registry as sources, so that transfers can be chained."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from adapters.sources.sketch import FeatureSketch
from adapters.sources.source import Source, SourceProvider
from adapters.sources.stages import Stages
from adapters.sources.weights import fill_state, holds_weights, stage_weights_digest
from registry.digests import Digest
from registry.errors import SourceUnavailable, UnknownSource
from registry.manifest import LOGITS, Manifest, Segment
from registry.registry import Registry

SCHEME = "registry"


@dataclass(frozen=True, kw_only=True)
class RegisteredSource(Source):
    """A registered version to start from: its own network, retrained stages included.

    Stages that are the first source's are loaded from there; those that were retrained, from the
    states that were stored with the versions.

    Attributes:
        base: the source outside the registry that the chain began with.
        segments: the version's stages, from the input on.
        registry: where the states are.
        output: weight and bias of the version's own linear head, or None.
        stored_sketch: digest of the sketch that was stored with the version, or None.
    """

    base: Source
    segments: tuple[Segment, ...] = field(repr=False)
    registry: Registry = field(repr=False, compare=False)
    output: tuple[np.ndarray, np.ndarray] | None = field(repr=False, compare=False)
    stored_sketch: Digest | None = None

    def weights_at_hand(self) -> bool:
        """Say whether every stage can be had: from the registry, or from the first source."""
        # A retrained stage without a state has nothing in it to be had.
        own = all(segment.state or segment.role == "tail" for segment in self.segments)
        return own or self.base.weights_at_hand()

    def sketch(self) -> FeatureSketch | None:
        """Return the sketch of what the version learnt from, where it was stored with it."""
        return (
            None
            if self.stored_sketch is None
            else FeatureSketch.from_bytes(self.registry.blob(self.stored_sketch))
        )

    def load(self, seed: int | None = None) -> Stages:
        """Return the version's network in stages; see :meth:`Source.load`."""
        if seed is not None:
            stages = self.base.load(seed)
            stages.head = None if self.output is None else self._random_head(seed)
            stages.head_after = len(stages)
            return stages
        stages = self.base.load(0)
        if any(segment.state is None and holds_weights(stages, k) for k, segment in enumerate(self.segments)):
            stages = self.base.load()
        for k, segment in enumerate(self.segments):
            if segment.state is not None:
                fill_state(stages, k, self.registry.blob(segment.state))
            if stage_weights_digest(stages, k) != segment.weights:
                raise SourceUnavailable(
                    f"expected {self.base.spec} to give the stage {segment.name!r} of {self.spec}, it gives another; "
                    "its weights have changed since"
                )
        stages.head = None if self.output is None else _linear(*self.output)
        stages.head_after = len(stages)
        return stages

    def _random_head(self, seed: int) -> nn.Linear:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Linear(self.dimension, len(self.labels)).eval()


class RegistryProvider(SourceProvider):
    """``registry:REF``, a version in the registry.

    Args:
        registry: where versions are.
        outside: finds the sources that chains begin with.
    """

    scheme = SCHEME

    def __init__(self, registry: Registry, outside: Callable[[str], Source]) -> None:
        self._registry = registry
        self._outside = outside

    def specs(self) -> Iterable[str]:
        """Return the spec of every registered version, the newest first."""
        cursor: str | None = None
        while True:
            page = self._registry.versions(cursor=cursor)
            yield from (f"{SCHEME}:{version.ref}" for version in page.versions)
            if page.next is None:
                return
            cursor = page.next

    def source(self, spec: str) -> RegisteredSource:
        """Return the source that a ref names; its own spec names source task, target and number.

        Raises:
            NotFound: nothing answers to the ref.
            UnknownSource: the version cannot be carried on.
        """
        version = self._registry.resolve(spec.partition(":")[2])
        manifest = self._registry.manifest(version)
        base = self._base(manifest)
        stages = tuple(segment for segment in manifest.segments if segment.role != "head")
        if tuple(segment.name for segment in stages) != base.cuts:
            raise UnknownSource(
                f"{version.ref} takes its features from {', '.join(segment.name for segment in stages)}, not from the "
                f"whole of {base.spec}; continue from {manifest.origin.spec} instead"
            )
        head = _gemm(self._registry, manifest)
        assert manifest.space is not None, "stages leave features"
        return RegisteredSource(
            spec=f"{SCHEME}:{version.ref}",
            architecture=base.architecture,
            task=manifest.transfer.target,
            labels=manifest.heads[0].labels if head is not None else (),
            recipe=self._registry.recipe(manifest),
            cuts=base.cuts,
            dimension=base.dimension,
            normalisation=base.normalisation,
            input_size=base.input_size,
            smallest=base.smallest,
            licence=manifest.origin.licence,
            pooling=manifest.space.pooling,
            norm=manifest.space.normalisation,
            states={segment.weights: segment.state for segment in stages if segment.state is not None},
            parent=version.digest,
            base=base,
            segments=stages,
            registry=self._registry,
            output=head,
            stored_sketch=manifest.sketch,
        )

    def _base(self, manifest: Manifest) -> Source:
        """Return the source outside the registry that a version goes back to."""
        while manifest.origin.parent is not None:
            manifest = self._registry.manifest(manifest.origin.parent)
        return self._outside(manifest.origin.spec)


def _gemm(registry: Registry, manifest: Manifest) -> tuple[np.ndarray, np.ndarray] | None:
    """Return weight, float32 [labels, D], and bias of a version's only head where it is one linear layer."""
    if len(manifest.heads) != 1:
        return None
    wire = manifest.heads[0].logits
    segment = next(each for each in manifest.segments if each.name == wire.segment)
    graph = onnx.load_from_string(registry.blob(segment.digest)).graph
    if segment.outputs != (LOGITS,) or [node.op_type for node in graph.node] != ["Gemm"]:
        return None
    arrays: Mapping[str, np.ndarray] = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    _, weight, bias = graph.node[0].input
    return arrays[weight].copy(), arrays[bias].copy()


def _linear(weight: np.ndarray, bias: np.ndarray) -> nn.Linear:
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer = layer.to_empty(device="cpu")
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
    return layer.eval()
