"""Segments: canonical ONNX files, and the way to join them."""

from registry.segments.canonical import canonical, from_bytes, to_bytes
from registry.segments.merge import Detached, Node, merge, merge_detached

__all__ = ["Detached", "Node", "canonical", "from_bytes", "merge", "merge_detached", "to_bytes"]
