"""Versions made of given segments, without a proof or figures: what speed is measured on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as library_version

from registry.digests import Digest
from registry.manifest import (
    CLASSIFICATION,
    FEATURES,
    LOGITS,
    Head,
    Manifest,
    Origin,
    Parity,
    Segment,
    Split,
    TechniqueRecord,
    Wire,
)
from registry.names import PRODUCTION, Transfer
from registry.recipe import Recipe
from registry.registry import Registry
from registry.signature import Signature, TensorSpec
from registry.space import Space
from registry.versions import Version


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment in the making.

    Attributes:
        name: its name in the version.
        model: canonical bytes.
        weights: digest of its weights.
        inputs: for each input port its wire, ``recipe:FIELD`` or ``SEGMENT:OUTPUT``.
        outputs: the output ports.
    """

    name: str
    model: bytes = field(repr=False)
    weights: Digest
    inputs: Mapping[str, str]
    outputs: tuple[str, ...]


def register(
    registry: Registry,
    target: str,
    pieces: Sequence[Piece],
    *,
    recipe: Recipe,
    origin: Origin,
    dimension: int,
    labels: int,
    pooling: str = "avg",
    seed: int = 0,
) -> Version:
    """Register a version of a chain of segments, the last of which is its head, from the source task ``random``.

    Args:
        registry: where the version goes.
        target: the task to register it under.
        pieces: from the input on.
        recipe: prepares inputs for the first.
        origin: what it claims to come from.
        dimension: length of its features.
        labels: how many its head tells apart.
        pooling: how features were pooled.
        seed: other seeds make other versions of equal segments.
    """
    with registry.publication() as publication:
        segments = tuple(
            Segment(
                each.name,
                "head" if each is pieces[-1] else "tail",
                publication.store("segment", each.model),
                len(each.model),
                each.weights,
                {port: Wire.parse(wire) for port, wire in each.inputs.items()},
                each.outputs,
            )
            for each in pieces
        )
        prepares = publication.store("recipe", recipe.to_bytes())
        weights = tuple(segment.weights for segment in segments[:-1])
        names = tuple(f"label {number:04d}" for number in range(labels))
        return publication.register(
            Manifest(
                transfer=Transfer("random", target),
                modality=recipe.modality,
                technique=TechniqueRecord("scratch", None, {}),
                origin=origin,
                recipe=prepares,
                segments=segments,
                features=Wire(segments[-2].name, FEATURES),
                heads=(Head(target, CLASSIFICATION, Wire(segments[-1].name, LOGITS), names),),
                signature=Signature(
                    recipe.fields,
                    (
                        TensorSpec(FEATURES, "float32", ("batch", dimension)),
                        TensorSpec(LOGITS, "float32", ("batch", labels)),
                    ),
                ),
                space=Space(weights, prepares, pooling, "none", dimension),
                parts={"train": Split(0, publication.store("items", b""))},
                excluded={},
                metrics={},
                predictions=None,
                parity=Parity({}, {}, None, {}, ()),
                seed=seed,
                libraries={"onnx": library_version("onnx")},
            )
        )


def promote(registry: Registry, version: Version) -> Version:
    """Put a version into production; return it as it is then."""
    registry.promote(version.ref, PRODUCTION)
    return registry.resolve(version.ref)
