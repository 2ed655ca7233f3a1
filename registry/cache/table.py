"""Rows of one key in memory or mapped, searched without a loop over items."""

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
"""Shards are merged up to this size: beyond it, rewriting costs more than one shard more to search."""


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """Rows that were put together.

    Attributes:
        items: the bytes of each item's digest, uint8 [N, 32].
        rows: float32 [N, ...], C-contiguous.

    Raises:
        InvalidValue: another dtype, or another number of rows than of items.
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
        """Return the rows of several shards as one."""
        return cls(
            np.concatenate([shard.items for shard in shards]),
            np.concatenate([shard.rows for shard in shards]),
        )

    def __len__(self) -> int:
        return len(self.items)

    @property
    def bytes(self) -> int:
        """How much the rows and their digests take."""
        return int(self.items.nbytes + self.rows.nbytes)

    def take(self, chosen: np.ndarray) -> "Shard":
        """Return a copy of some rows, by positions int64 [M]."""
        return Shard(self.items[chosen], np.ascontiguousarray(self.rows[chosen]))


class CacheTable:
    """The shards of one key, immutable.

    Raises:
        InvalidValue: their rows have several shapes.
    """

    def __init__(self, shards: Iterable[Shard] = ()) -> None:
        self.shards = tuple(shards)
        if len({shard.rows.shape[1:] for shard in self.shards}) > 1:
            raise InvalidValue("expected rows of one shape under one key, got several")

    @property
    def bytes(self) -> int:
        """How much all rows and their digests take."""
        return sum(shard.bytes for shard in self.shards)

    def find(self, items: np.ndarray) -> Found:
        """Return the rows of some items, uint8 [N, 32]; a view where they lie together in that order."""
        mask, places = self._search(items)
        return Found(mask, self._rows(places))

    def lacking(self, shard: Shard) -> np.ndarray:
        """Return the first positions in a shard of each item that the table lacks, int64, ascending.

        Raises:
            InvalidValue: the shard's rows have another shape than the table's.
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
        """Return which items there are, bool [N], and the places of those in all shards, end to end."""
        held, prefixes, order = self._index
        if not len(held):
            return np.zeros(len(items), bool), np.zeros(0, np.int64)
        at = np.searchsorted(prefixes, _prefix(items)).clip(max=len(held) - 1)
        places = order[at]
        # Two digests with one prefix: the second is never found, which costs its computation, no more.
        mask: np.ndarray = (held[places] == items).all(axis=1)
        return mask, places[mask]

    @cached_property
    def _index(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All items, their prefixes sorted, and the places of those."""
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


def fitting(shard: Shard, lacking: np.ndarray, room: int) -> Shard:
    """Return the first of the chosen rows that fit into so many bytes."""
    each = ITEM_BYTES + shard.rows[:1].nbytes
    return shard.take(lacking[: max(room, 0) // each])


def absorbed(shards: Iterable[Shard], fresh: Shard) -> list[Shard]:
    """Return the shards to merge with a new one, so that few are left however many small ones come.

    Smallest first, each that is no larger than what is merged so far: a row is rewritten about as often
    as its shard doubles.
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
    """Return each digest as one value that can be compared, [N]."""
    values: np.ndarray = np.ascontiguousarray(items).view(f"V{ITEM_BYTES}")[:, 0]
    return values


def _together(rows: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return rows at places, without copying where those follow each other."""
    first = int(places[0])
    if places[-1] - first == len(places) - 1 and (np.diff(places) == 1).all():
        return rows[first : first + len(places), ...]
    chosen: np.ndarray = rows[places]
    return chosen
