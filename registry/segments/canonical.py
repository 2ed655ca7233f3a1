"""Canonical bytes: equal computations on equal weights are equal files, from any process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto, helper

from registry.errors import InvalidSegment
from registry.segments.graph import MAX_BYTES, Graph, Value, Weight

INLINE_BYTES = 1024
"""Weights up to this size stay inside a detached model: axes and shapes, which shape inference reads."""


@dataclass(frozen=True, slots=True)
class Detached:
    """A model beside its weights, for models of 2 GiB and more.

    Attributes:
        model: the model's bytes, with every weight over 1 KiB declared external.
        weights: their values by initialiser name, for ``SessionOptions.add_external_initializers``.
    """

    model: bytes = field(repr=False)
    weights: Mapping[str, np.ndarray] = field(repr=False)


def canonical(model: ModelProto) -> bytes:
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


def to_bytes(model: ModelProto) -> bytes:
    """Serialise a model deterministically.

    Raises:
        InvalidSegment: it has 2 GiB or more, protobuf's limit.
    """
    try:
        return cast(bytes, model.SerializeToString(deterministic=True))
    except (EncodeError, ValueError) as error:
        raise InvalidSegment(
            f"one ONNX file holds less than {MAX_BYTES:,} bytes, this one would have more; cut the network at "
            "more points, or run its segments unmerged or detached from their weights"
        ) from error


def detach(graph: Graph, outputs: Mapping[str, Value]) -> Detached:
    """Return the canonical model that computes some values, beside its weights, whatever its size."""
    weights: dict[str, np.ndarray] = {}

    def store(tensor: TensorProto, weight: Weight) -> None:
        if len(weight.data) <= INLINE_BYTES:
            tensor.raw_data = weight.data
            return
        dtype = helper.tensor_dtype_to_np_dtype(weight.dtype)
        weights[tensor.name] = np.frombuffer(weight.data, dtype).reshape(weight.shape)
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=tensor.name)

    return Detached(to_bytes(graph.write(outputs, store)), weights)


def from_bytes(data: bytes) -> ModelProto:
    """Parse a model.

    Raises:
        InvalidSegment: the bytes are not an ONNX model.
    """
    try:
        return cast(ModelProto, ModelProto.FromString(data))
    except DecodeError as error:
        raise InvalidSegment(f"expected the bytes of an ONNX model, got {len(data):,} others") from error
