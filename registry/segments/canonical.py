"""Canonical bytes: equal computations on equal weights are equal files, from any process."""

from typing import cast

from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped]
from onnx import ModelProto

from registry.errors import InvalidSegment
from registry.segments.graph import MAX_BYTES, Graph


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


def from_bytes(data: bytes) -> ModelProto:
    """Parse a model.

    Raises:
        InvalidSegment: the bytes are not an ONNX model.
    """
    try:
        return cast(ModelProto, ModelProto.FromString(data))
    except DecodeError as error:
        raise InvalidSegment(f"expected the bytes of an ONNX model, got {len(data):,} others") from error
