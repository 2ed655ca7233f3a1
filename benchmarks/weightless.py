"""A version whose model costs next to nothing: it looks at one pixel of 64 × 64. What is left is the front end."""

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from benchmarks.made import Piece, promote, register
from registry.digests import Digest
from registry.manifest import Origin
from registry.recipe import ImageRecipe
from registry.registry import Registry
from registry.segments import canonical
from registry.versions import Version

SIDE = 64
DIMENSION = 4
LABELS = 3
RECIPE = ImageRecipe(height=SIDE, width=SIDE)


def put_into_production(registry: Registry, target: str, seed: int = 0) -> Version:
    """Register a version and promote it; equal seeds make equal versions, all seeds share the trunk.

    Args:
        registry: where the version goes.
        target: the task to register it under.
        seed: of the head.
    """
    version = register(
        registry,
        target,
        [trunk(), head(seed)],
        recipe=RECIPE,
        origin=Origin("bundled:weightless", "weightless", trunk().weights, "CC0-1.0"),
        dimension=DIMENSION,
        labels=LABELS,
        seed=seed,
    )
    return promote(registry, version)


def trunk() -> Piece:
    """Return the segment from ``pixels`` uint8 [batch, 64, 64, 3] to ``features`` float32 [batch, 4]."""
    constants = {
        "first": np.array(0),
        "weights": np.random.default_rng(0).normal(size=(3, DIMENSION)).astype(np.float32) / 255,
    }
    nodes = [
        helper.make_node("Gather", ["pixels", "first"], ["line"], axis=1),
        helper.make_node("Gather", ["line", "first"], ["pixel"], axis=1),
        helper.make_node("Cast", ["pixel"], ["colour"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["colour", "weights"], ["features"]),
    ]
    taken = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", SIDE, SIDE, 3])
    given = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", DIMENSION])
    return _part("pixel", nodes, constants, taken, given, {"pixels": "recipe:pixels"})


def head(seed: int) -> Piece:
    """Return the segment from ``features`` float32 [batch, 4] to ``logits`` float32 [batch, 3]."""
    weights = np.random.default_rng(seed).normal(size=(DIMENSION, LABELS)).astype(np.float32)
    node = helper.make_node("Gemm", ["features", "weights", "bias"], ["logits"])
    constants = {"weights": weights, "bias": np.zeros(LABELS, np.float32)}
    taken = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", DIMENSION])
    given = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", LABELS])
    return _part("head", [node], constants, taken, given, {"features": "pixel:features"})


def _part(
    name: str,
    nodes: Sequence[NodeProto],
    constants: Mapping[str, np.ndarray],
    taken: ValueInfoProto,
    given: ValueInfoProto,
    inputs: Mapping[str, str],
) -> Piece:
    initialisers = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, name, [taken], [given], initialisers)
    model = canonical(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    return Piece(name, model, Digest.of(model), inputs, (given.name,))
