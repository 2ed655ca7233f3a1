"""Serialised models: as one file, or separate from their weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped]  # it has no types
from onnx import ModelProto

from registry.errors import InvalidSegment

MAX_BYTES = 2**31 - 1
"""protobuf's limit on one serialised message."""
INLINE_BYTES = 1024
"""Weights up to this size stay inside a detached model: shape inference reads axes and shapes."""
_OF_SHAPES = frozenset({"Shape", "Size"})
"""Operators that are constant where the shape of their input is."""


@dataclass(frozen=True, slots=True)
class Detached:
    """A model separate from its weights: of any size, and opened without copying them.

    Attributes:
        model: the model's bytes, in which every weight over 1 KiB is external.
        weights: their values by initialiser name, for ``SessionOptions.add_external_initializers``.
    """

    model: bytes = field(repr=False)
    weights: Mapping[str, np.ndarray] = field(repr=False)

    def operators(self) -> frozenset[str]:
        """Return the operators of its nodes; raises ``InvalidSegment`` like ``from_bytes``."""
        return frozenset(node.op_type for node in from_bytes(self.model).graph.node)

    def foldable(self) -> int:
        """Return how many nodes may be computed when the model is opened, as their inputs do not depend on its inputs.

        Raises:
            InvalidSegment: the bytes are not a model.
        """
        graph = from_bytes(self.model).graph
        known = {"", *(tensor.name for tensor in graph.initializer)}
        count = 0
        for node in graph.node:
            if node.op_type in _OF_SHAPES or known.issuperset(node.input):
                known.update(node.output)
                count += 1
        return count


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
