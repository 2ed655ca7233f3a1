"""Reading rows: each one digested, decoded by the recipe, and kept or counted as left out."""

import os
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from adapters.datasets.item import MAX_ITEM_BYTES, Item
from adapters.datasets.listing import Row
from adapters.progress import Progress
from registry.digests import Digest
from registry.errors import InputTooLarge, InvalidInput
from registry.recipe import Recipe

UNREADABLE = "unreadable file"
EMPTY = "empty file"
TOO_LARGE = f"over {MAX_ITEM_BYTES >> 20} MiB"
TOO_MANY_PIXELS = "too many pixels"
UNDECODABLE = "broken or no picture"

MEMORY_BYTES = 1 << 30
"""Rows over this size are kept in an unnamed temporary file, mapped into memory."""

_CHUNK = 512


@dataclass(slots=True)
class Reading:
    """What came of some rows.

    Attributes:
        rows: those that could be read, in order.
        items: the item of each.
        fields: the recipe's fields, one entry for each item.
        excluded: the others, counted by reason.
        examples: for each reason, the first origin and what was wrong with it.
    """

    rows: list[Row] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    fields: dict[str, np.ndarray] = field(default_factory=dict)
    excluded: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Broken:
    reason: str
    detail: str


def read(rows: Sequence[Row], recipe: Recipe, progress: Progress) -> Reading:
    """Read, digest and decode every row, on all processors.

    Nothing about a single row is an error: it is left out and counted.
    """
    reading = Reading()
    blank = {spec.name: (tuple(spec.shape[1:]), spec.dtype) for spec in recipe.fields}
    kept = {name: allocate((len(rows), *shape), dtype) for name, (shape, dtype) in blank.items()}
    with ThreadPoolExecutor(_workers()) as pool, progress.step("reading", len(rows)) as step:
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            for row, result in zip(chunk, pool.map(lambda row: _one(row, recipe), chunk), strict=True):
                step.advance()
                if isinstance(result, _Broken):
                    reading.excluded[result.reason] += 1
                    reading.examples.setdefault(result.reason, f"{row.origin}: {result.detail}")
                    continue
                item, prepared = result
                for name, value in prepared.items():
                    kept[name][len(reading.items)] = value
                reading.rows.append(row)
                reading.items.append(item)
    reading.fields = {name: values[: len(reading.items)] for name, values in kept.items()}
    return reading


def gather(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return ``values[order]``, in memory or in a temporary file as its size asks for."""
    found = allocate((len(order), *values.shape[1:]), values.dtype)
    for start in range(0, len(order), _CHUNK):
        found[start : start + _CHUNK] = values[order[start : start + _CHUNK]]
    return found


def allocate(shape: tuple[int | str, ...], dtype: np.typing.DTypeLike) -> np.ndarray:
    """Return an array to fill, in memory, or over 1 GiB in a temporary file that vanishes with it."""
    sizes = tuple(int(size) for size in shape)
    size = int(np.prod(sizes, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size <= MEMORY_BYTES:
        return np.empty(sizes, dtype)
    with tempfile.TemporaryFile(prefix="cultivar-rows-") as file:
        return np.memmap(file, dtype, "w+", shape=sizes)


def _one(row: Row, recipe: Recipe) -> "tuple[Item, Mapping[str, np.ndarray]] | _Broken":
    data = _bytes(row.content)
    if isinstance(data, _Broken):
        return data
    try:
        prepared = recipe.prepare(data)
    except InputTooLarge as error:
        return _Broken(TOO_MANY_PIXELS, str(error))
    except InvalidInput as error:
        return _Broken(UNDECODABLE, str(error))
    return Item(Digest.of(data), row.label, row.group, row.origin, row.content), prepared


def _bytes(content: bytes | Path) -> "bytes | _Broken":
    if isinstance(content, bytes):
        return content
    try:
        with content.open("rb") as stream:
            data = stream.read(MAX_ITEM_BYTES + 1)
    except OSError as error:
        return _Broken(UNREADABLE, error.strerror or "cannot be read")
    if len(data) > MAX_ITEM_BYTES:
        return _Broken(TOO_LARGE, "scale it down")
    return data or _Broken(EMPTY, "it has no bytes")


def _workers() -> int:
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
