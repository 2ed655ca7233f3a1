"""Tiny, whole versions: real ONNX segments, a real recipe, a manifest that fits them.

A trunk averages an 8 x 8 picture's colours and mixes them into four features; a head is one
Gemm on those. Equal trunk seeds give equal trunk bytes, whatever the head::

    version = publish(registry, tiny("letters/digits", seed=1))
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from PIL import Image

from registry.digests import Digest
from registry.manifest import CLASSIFICATION, Head, Manifest, Origin, Parity, Part, Segment, Technique, Wire
from registry.names import Transfer
from registry.recipe import ImageRecipe
from registry.registry import Registry
from registry.segments import canonical
from registry.signature import Signature, TensorSpec
from registry.space import Space
from registry.versions import Version

SIDE = 8
DIMENSION = 4
LABELS = ("circle", "square", "triangle")


@dataclass(frozen=True, slots=True)
class Tiny:
    """A manifest and every blob that it needs, itself excluded, as (kind, bytes)."""

    manifest: Manifest
    blobs: tuple[tuple[str, bytes], ...]


def picture(seed: int = 0, side: int = SIDE) -> bytes:
    """Return a PNG of random colours."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def trunk(seed: int = 0) -> bytes:
    """Return a segment from ``pixels`` uint8 [batch, 8, 8, 3] to ``features`` float32 [batch, 4]."""
    weights = np.random.default_rng(seed).normal(size=(3, DIMENSION)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["real", "scale"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled", "axes"], ["colours"], keepdims=0),
        helper.make_node("Gemm", ["colours", "weights"], ["features"]),
    ]
    constants: dict[str, ArrayLike] = {"scale": np.float32(255), "axes": np.array([1, 2]), "weights": weights}
    return _segment(
        nodes,
        constants,
        helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", SIDE, SIDE, 3]),
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", DIMENSION]),
    )


def head(seed: int = 0, labels: int = len(LABELS)) -> bytes:
    """Return a segment from ``features`` float32 [batch, 4] to ``logits`` float32 [batch, labels]."""
    random = np.random.default_rng(seed)
    constants = {
        "weights": random.normal(size=(DIMENSION, labels)).astype(np.float32),
        "bias": random.normal(size=labels).astype(np.float32),
    }
    return _segment(
        [helper.make_node("Gemm", ["features", "weights", "bias"], ["logits"])],
        constants,
        helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", DIMENSION]),
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", labels]),
    )


def tiny(
    transfer: str = "letters/digits",
    *,
    seed: int = 0,
    trunk_seed: int = 0,
    labels: tuple[str, ...] | None = LABELS,
    technique: str = "frozen",
    parent: Digest | None = None,
) -> Tiny:
    """Make a version; other arguments make another one, equal ones the same.

    Args:
        transfer: source and target task.
        seed: of the head, the items and the accuracy.
        trunk_seed: of the trunk: equal ones share its segment and its space.
        labels: the head's labels; None makes a feature extractor without head.
        technique: the technique's name.
        parent: digest of the version that it claims to be carried over from.
    """
    recipe = ImageRecipe(height=SIDE, width=SIDE)
    parts = {
        name: "\n".join(sorted(Digest.of(f"{name} {seed} {index}".encode()) for index in range(3))).encode()
        for name in ("train", "test")
    }
    blobs = [("recipe", recipe.to_bytes()), *(("items", items) for items in parts.values())]
    trunk_bytes, trunk_weights = trunk(trunk_seed), Digest.of(f"trunk {trunk_seed}".encode())
    segments = [
        _described(
            "pool", "trunk", trunk_bytes, trunk_weights, {"pixels": Wire("recipe", "pixels")}, "features"
        )
    ]
    blobs.append(("segment", trunk_bytes))
    outputs = [TensorSpec("features", "float32", ("batch", DIMENSION))]
    heads: tuple[Head, ...] = ()
    predictions = None
    if labels is not None:
        head_bytes, head_weights = head(seed, len(labels)), Digest.of(f"head {seed} {len(labels)}".encode())
        wires = {"features": Wire("pool", "features")}
        segments.append(_described("head", "head", head_bytes, head_weights, wires, "logits"))
        blobs += [("segment", head_bytes), ("predictions", f'{{"seed": {seed}}}'.encode())]
        outputs.append(TensorSpec("logits", "float32", ("batch", len(labels))))
        heads = (Head(Transfer.parse(transfer).target, CLASSIFICATION, Wire("head", "logits"), labels),)
        predictions = Digest.of(blobs[-1][1])
    manifest = Manifest(
        transfer=Transfer.parse(transfer),
        modality="image",
        technique=Technique(technique, None, {"l2": 1.0}),
        origin=Origin("bundled:tiny", "tiny", trunk_weights, "CC0-1.0", parent),
        recipe=recipe.digest,
        segments=tuple(segments),
        features=Wire("pool", "features"),
        heads=heads,
        signature=Signature(recipe.fields, tuple(outputs)),
        space=Space((trunk_weights,), recipe.digest, "avg", "none", DIMENSION),
        parts={name: Part(3, Digest.of(items)) for name, items in parts.items()},
        excluded={},
        metrics={} if labels is None else {"accuracy": round(0.5 + seed % 50 / 100, 2)},
        predictions=predictions,
        parity=Parity({"features": 0.0}, {"features": 1e-4}, None, {"synthetic": 256}, (1, 2, 3, 17)),
        seed=seed,
        libraries={"onnx": "1.23.2"},
    )
    return Tiny(manifest, tuple(blobs))


def publish(registry: Registry, version: Tiny) -> Version:
    """Store a version's blobs and register it."""
    with registry.publication() as publication:
        for kind, data in version.blobs:
            publication.store(kind, data)
        return publication.register(version.manifest)


def _described(
    name: str, role: str, data: bytes, weights: Digest, inputs: dict[str, Wire], output: str
) -> Segment:
    return Segment(name, role, Digest.of(data), len(data), weights, inputs, (output,))


def _segment(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, ArrayLike],
    input_: ValueInfoProto,
    output: ValueInfoProto,
) -> bytes:
    initialisers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", [input_], [output], initialisers)
    return canonical(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
