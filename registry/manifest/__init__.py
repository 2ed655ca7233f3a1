"""The manifest of a version, and the value types in it."""

from registry.manifest.head import CLASSIFICATION, KINDS, MULTILABEL, Head
from registry.manifest.manifest import EMBEDDING, FEATURES, FORMAT, LOGITS, MAX_BYTES, Manifest
from registry.manifest.origin import Origin, SourceVerification
from registry.manifest.parity import Parity
from registry.manifest.segment import ROLES, Segment
from registry.manifest.split import Split
from registry.manifest.technique import Json, TechniqueRecord
from registry.manifest.wire import RECIPE, Wire

__all__ = [
    "CLASSIFICATION",
    "EMBEDDING",
    "FEATURES",
    "FORMAT",
    "KINDS",
    "LOGITS",
    "MAX_BYTES",
    "MULTILABEL",
    "RECIPE",
    "ROLES",
    "Head",
    "Json",
    "Manifest",
    "Origin",
    "Parity",
    "Segment",
    "SourceVerification",
    "Split",
    "TechniqueRecord",
    "Wire",
]
