"""Canonical bytes: equal computations on equal weights are equal files, from any process."""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, TensorProto, helper

from registry.segments.encoding import INLINE_BYTES, Detached, to_bytes
from registry.segments.graph import Graph, Value, Weight


def canonical(model: ModelProto | Detached) -> bytes:
    """Return the canonical bytes of a model.

    Nodes stand in depth-first order from the outputs, under positional names; constants are
    initialisers, merged by content; equal nodes are one; inputs and outputs are sorted by name and
    keep it; dimensions that vary are called ``batch`` and ``seq``; no metadata is left; opset and
    IR version are fixed. Shapes of inner values are kept where they are numbers or these symbols:
    ONNX Runtime's fusions depend on them.

    Raises:
        InvalidSegment: the model is not well-formed, holds what no segment may, or is too large.
    """
    graph = Graph()
    return to_bytes(graph.write(graph.read(model)))


def detach(graph: Graph, outputs: Mapping[str, Value]) -> Detached:
    """Return the canonical model that computes some values, beside its weights, whatever its size."""
    weights: dict[str, np.ndarray] = {}

    def store(tensor: TensorProto, weight: Weight) -> None:
        if len(weight.data) <= INLINE_BYTES:
            tensor.raw_data = bytes(weight.data)
            return
        dtype = helper.tensor_dtype_to_np_dtype(weight.dtype)
        weights[tensor.name] = np.frombuffer(weight.data, dtype).reshape(weight.shape)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=tensor.name)

    return Detached(to_bytes(graph.write(outputs, store)), weights)
