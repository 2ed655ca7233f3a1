"""A feature cache in memory."""

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from registry.cache.key import FeatureKey
from registry.cache.store import FeatureStore, Found
from registry.cache.table import CacheTable, Shard, absorbed, fitting, packed
from registry.digests import Digest

MEMORY_BYTES = 1 << 30


class MemoryStore(FeatureStore):
    """A feature cache in memory, up to a number of bytes; the least recently used keys are evicted first."""

    def __init__(self, max_bytes: int = MEMORY_BYTES) -> None:
        self._max_bytes = max_bytes
        self._tables: OrderedDict[FeatureKey, CacheTable] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: FeatureKey, items: Sequence[Digest]) -> Found:
        """Return the cached rows."""
        with self._lock:
            table = self._tables.get(key) or CacheTable()
            if table.shards:
                self._tables.move_to_end(key)
        return table.find(packed(items))

    def put(self, key: FeatureKey, items: Sequence[Digest], rows: np.ndarray) -> None:
        """Store a copy of rows; evict other keys if there are too many."""
        given = Shard(packed(items), rows)
        with self._lock:
            table = self._tables.get(key) or CacheTable()
            fresh = fitting(given, table.lacking(given), self._max_bytes - table.bytes)
            if not len(fresh):
                return
            merged = absorbed(table.shards, fresh)
            left = [shard for shard in table.shards if shard not in merged]
            joined = Shard.joined([*merged, fresh])
            joined.rows.flags.writeable = False
            self._tables[key] = CacheTable([*left, joined])
            self._tables.move_to_end(key)
            while sum(each.bytes for each in self._tables.values()) > self._max_bytes:
                self._tables.popitem(last=False)
