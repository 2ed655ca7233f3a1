"""Canonical bytes: equal computations with equal weights give equal files in any process."""

from collections.abc import Mapping

import numpy as np
from onnx import ModelProto, TensorProto, helper

from registry.segments.encoding import INLINE_BYTES, Detached, to_bytes
from registry.segments.graph import Graph, Value, Weight


def canonical(model: ModelProto | Detached) -> bytes:
    """Return the canonical bytes of a model.

    Nodes are in depth-first order from the outputs, with positional names. Constants are initialisers, merged
    by content; equal nodes are merged. Inputs and outputs keep their names and are sorted by them. Variable
    dimensions are named ``batch`` and ``seq``. Metadata is removed; opset and IR version are fixed. Shapes of
    inner values are kept if they consist of numbers and these symbols, because ONNX Runtime's fusions depend
    on them.

    Raises:
        InvalidSegment: the model is malformed, contains something forbidden in segments, or is too large.
    """
    graph = Graph()
    return to_bytes(graph.write(graph.read(model)))


def detach(graph: Graph, outputs: Mapping[str, Value]) -> Detached:
    """Return the canonical model that computes some values, separate from its weights, of any size."""
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
