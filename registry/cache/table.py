"""The rows of one key, in memory or memory-mapped, searched without a loop over examples."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from registry.cache.store import Found
from registry.digests import PREFIX, Digest
from registry.errors import InvalidValue

ITEM_BYTES = 32
MERGE_BYTES = 32 << 20
"""Largest size to which shards are merged; above it, rewriting costs more than searching one more shard."""


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """Rows that were stored together.

    Attributes:
        items: the bytes of each example's digest, uint8 [N, 32].
        rows: float32 [N, ...], C-contiguous.

    Raises:
        InvalidValue: the dtype is wrong, or the numbers of rows and examples differ.
    """

    items: np.ndarray
    rows: np.ndarray

    def __post_init__(self) -> None:
        if self.items.dtype != np.uint8 or self.items.shape[1:] != (ITEM_BYTES,):
            raise InvalidValue(
                f"expected digests, uint8 [N, {ITEM_BYTES}], got {self.items.dtype} {list(self.items.shape)}"
            )
        if self.rows.dtype != np.float32 or self.rows.ndim == 0 or len(self.rows) != len(self.items):
            raise InvalidValue(
                f"expected float32 rows for {len(self.items)} items, "
                f"got {self.rows.dtype} {list(self.rows.shape)}"
            )

    @classmethod
    def joined(cls, shards: Sequence["Shard"]) -> Self:
        """Return the rows of several shards as one shard."""
        return cls(
            np.concatenate([shard.items for shard in shards]),
            np.concatenate([shard.rows for shard in shards]),
        )

    def __len__(self) -> int:
        return len(self.items)

    @property
    def bytes(self) -> int:
        """Size of the rows and their digests in bytes."""
        return int(self.items.nbytes + self.rows.nbytes)

    def take(self, chosen: np.ndarray) -> "Shard":
        """Return a copy of some rows, by positions int64 [M]."""
        return Shard(self.items[chosen], np.ascontiguousarray(self.rows[chosen]))


class CacheTable:
    """The shards of one key, immutable.

    Raises:
        InvalidValue: their rows have different shapes.
    """

    def __init__(self, shards: Iterable[Shard] = ()) -> None:
        self.shards = tuple(shards)
        if len({shard.rows.shape[1:] for shard in self.shards}) > 1:
            raise InvalidValue("expected rows of one shape under one key, got several")

    @property
    def bytes(self) -> int:
        """Size of all rows and their digests in bytes."""
        return sum(shard.bytes for shard in self.shards)

    def find(self, items: np.ndarray) -> Found:
        """Return the rows of some examples, uint8 [N, 32]; a view if they are contiguous in that order."""
        mask, places = self._search(items)
        return Found(mask, self._rows(places))

    def lacking(self, shard: Shard) -> np.ndarray:
        """Return the first position in a shard of each example that the table lacks, int64, ascending.

        Raises:
            InvalidValue: the shard's rows and the table's have different shapes.
        """
        if self.shards and self.shards[0].rows.shape[1:] != shard.rows.shape[1:]:
            raise InvalidValue(
                f"expected rows of shape {list(self.shards[0].rows.shape[1:])} as the key's others have, "
                f"got {list(shard.rows.shape[1:])}"
            )
        once = np.zeros(len(shard), bool)
        once[np.unique(_whole(shard.items), return_index=True)[1]] = True
        return np.flatnonzero(once & ~self._search(shard.items)[0])

    def _search(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which examples are present, bool [N], and their positions in the concatenated shards."""
        held, prefixes, order = self._index
        if not len(held):
            return np.zeros(len(items), bool), np.zeros(0, np.int64)
        at = np.searchsorted(prefixes, _prefix(items)).clip(max=len(held) - 1)
        places = order[at]
        # If two digests share a prefix, the second is never found and its features are computed again.
        mask: np.ndarray = (held[places] == items).all(axis=1)
        return mask, places[mask]

    @cached_property
    def _index(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All examples, their sorted prefixes, and the positions of the sorted prefixes."""
        held = np.concatenate([np.zeros((0, ITEM_BYTES), np.uint8), *(shard.items for shard in self.shards)])
        prefixes = _prefix(held)
        order = np.argsort(prefixes, kind="stable")
        return held, prefixes[order], order

    def _rows(self, places: np.ndarray) -> np.ndarray:
        if not len(places):
            return np.zeros((0, *(self.shards[0].rows.shape[1:] if self.shards else ())), np.float32)
        ends = np.cumsum([len(shard) for shard in self.shards])
        shard_of = np.searchsorted(ends, places, side="right")
        within = places - (ends - [len(shard) for shard in self.shards])[shard_of]
        only = shard_of[0]
        if (shard_of == only).all():
            return _together(self.shards[only].rows, within)
        rows = np.empty((len(places), *self.shards[0].rows.shape[1:]), np.float32)
        for number in np.unique(shard_of):
            here = shard_of == number
            rows[here] = self.shards[number].rows[within[here]]
        return rows


def packed(items: Sequence[Digest]) -> np.ndarray:
    """Return the bytes of digests, uint8 [N, 32]."""
    letters = np.frombuffer("".join(items).encode(), np.uint8).reshape(
        len(items), len(PREFIX) + 2 * ITEM_BYTES
    )
    digits = letters[:, len(PREFIX) :].tobytes().decode()
    return np.frombuffer(bytes.fromhex(digits), np.uint8).reshape(len(items), ITEM_BYTES)


def fitting(shard: Shard, lacking: np.ndarray, free: int) -> Shard:
    """Return the first of the chosen rows that fit into a number of bytes."""
    each = ITEM_BYTES + shard.rows[:1].nbytes
    return shard.take(lacking[: max(free, 0) // each])


def absorbed(shards: Iterable[Shard], fresh: Shard) -> list[Shard]:
    """Return the shards to merge with a new one, so that the number of shards stays small.

    Shards are merged smallest first, as long as the next one is no larger than the merged rows so far. A row
    is rewritten about once per doubling of its shard.
    """
    merged, size = [], fresh.bytes
    for shard in sorted(shards, key=lambda each: each.bytes):
        if shard.bytes > size or size + shard.bytes > MERGE_BYTES:
            break
        merged.append(shard)
        size += shard.bytes
    return merged


def _prefix(items: np.ndarray) -> np.ndarray:
    """Return the first eight bytes of each digest as one number, uint64 [N]."""
    prefixes: np.ndarray = np.ascontiguousarray(items[:, :8]).view("<u8")[:, 0]
    return prefixes


def _whole(items: np.ndarray) -> np.ndarray:
    """Return each digest as one comparable value, [N]."""
    values: np.ndarray = np.ascontiguousarray(items).view(f"V{ITEM_BYTES}")[:, 0]
    return values


def _together(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return rows at positions, without a copy if the positions are consecutive."""
    first = int(places[0])
    if places[-1] - first == len(places) - 1 and (np.diff(places) == 1).all():
        return rows[first : first + len(places), ...]
    chosen: np.ndarray = rows[places]
    return chosen
