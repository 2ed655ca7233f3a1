"""Segments: canonical ONNX files, and functions that merge them."""

from registry.segments.canonical import canonical, detach
from registry.segments.encoding import Detached, from_bytes, to_bytes
from registry.segments.linear import Linear, read_linear
from registry.segments.merge import Node, merge, merge_detached

__all__ = [
    "Detached",
    "Linear",
    "Node",
    "canonical",
    "detach",
    "from_bytes",
    "merge",
    "merge_detached",
    "read_linear",
    "to_bytes",
]
