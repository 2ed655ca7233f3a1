"""Segments that consist of one linear layer, as arrays."""

from dataclasses import dataclass, field

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

from registry.segments.encoding import from_bytes

_PLAIN = {"alpha": 1.0, "beta": 1.0, "transA": 0}


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """``y = x @ weight + bias``.

    Attributes:
        weight: float32 [D, C].
        bias: float32 [C].
    """

    weight: np.ndarray = field(repr=False)
    bias: np.ndarray = field(repr=False)


def read_linear(data: bytes) -> Linear | None:
    """Return a segment's linear layer, or None if the segment is anything else.

    Several linear layers on one tensor can be computed as one matrix product.

    Raises:
        InvalidSegment: the bytes are not an ONNX model.
    """
    model = from_bytes(data)
    graph = model.graph
    if len(graph.node) != 1 or len(graph.input) != 1 or len(graph.output) != 1:
        return None
    node = graph.node[0]
    if node.op_type != "Gemm" or node.domain or len(node.input) != 3 or node.input[0] != graph.input[0].name:
        return None
    attributes = _attributes(node)
    transposed = attributes.pop("transB", 0)
    if any(attributes.get(name, value) != value for name, value in _PLAIN.items()):
        return None
    weight, bias = (_initialiser(model, name) for name in node.input[1:])
    if weight is None or bias is None or weight.dtype != np.float32 or bias.dtype != np.float32:
        return None
    weight = np.ascontiguousarray(weight.T if transposed else weight)
    return Linear(weight, bias) if bias.shape == weight.shape[1:] else None


def _attributes(node: NodeProto) -> dict[str, float]:
    return {each.name: each.f if each.name in ("alpha", "beta") else each.i for each in node.attribute}


def _initialiser(model: ModelProto, name: str) -> np.ndarray | None:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            return np.asarray(numpy_helper.to_array(tensor))
    return None
