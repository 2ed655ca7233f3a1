"""The feature cache: computed features, found by example content."""

from registry.cache.disk import DiskStore
from registry.cache.key import FeatureKey
from registry.cache.memory import MemoryStore
from registry.cache.store import FeatureStore, Found

__all__ = ["DiskStore", "FeatureKey", "FeatureStore", "Found", "MemoryStore"]
