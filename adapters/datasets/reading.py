"""Reading of rows: each one is digested, decoded by the recipe, and kept or counted as excluded."""

import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from adapters.datasets.item import MAX_ITEM_BYTES, Item
from adapters.datasets.listing import ListedRow
from adapters.datasets.rows import DenseRows, PreparedRows, RaggedRows
from registry.digests import Digest
from registry.errors import InputTooLarge, InvalidInput
from registry.progress import Progress
from registry.recipe import ImageRecipe, Prepared, Raw, Recipe, TextRecipe, content

UNREADABLE = "unreadable file"
EMPTY = "empty file"
EMPTY_TEXT = "empty text"
TOO_LARGE = f"over {MAX_ITEM_BYTES >> 20} MiB"
TOO_MANY_PIXELS = "too many pixels"
UNDECODABLE = "broken or no picture"
NO_TEXT = "no text"
TOO_LONG = "too long"

MEMORY_BYTES = 1 << 30
"""Rows over this size are kept in a memory-mapped unnamed temporary file."""

_CHUNK = 512


@dataclass(slots=True)
class Reading:
    """The result of reading rows.

    Attributes:
        rows: the readable rows, in order.
        items: the item of each.
        prepared: each row as prepared by the recipe.
        excluded: number of the other rows, by reason.
        remarks: number of rows that were kept but needed interpretation, by reason.
        examples: for each reason, the first origin and its problem.
    """

    rows: list[ListedRow] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    prepared: PreparedRows = field(default_factory=lambda: DenseRows({"": np.zeros(0)}))
    excluded: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Broken:
    reason: str
    detail: str


def read(rows: Sequence[ListedRow], recipe: Recipe, progress: Progress) -> Reading:
    """Read, digest and decode every row, on all processors.

    A bad row is not an error: it is excluded and counted.
    """
    reading = Reading()
    kept = _Kept(recipe, len(rows))
    with ThreadPoolExecutor(_workers()) as pool, progress.step("reading", len(rows)) as step:
        for start in range(0, len(rows), _CHUNK):
            chunk = rows[start : start + _CHUNK]
            for row, result in zip(chunk, pool.map(lambda row: _one(row, recipe), chunk), strict=True):
                step.advance()
                if isinstance(result, _Broken):
                    reading.excluded[result.reason] += 1
                    reading.examples.setdefault(result.reason, f"{row.origin}: {result.detail}")
                    continue
                item, prepared, remarks = result
                kept.add(prepared)
                for remark in remarks:
                    reading.remarks[remark] += 1
                    reading.examples.setdefault(remark, row.origin)
                reading.rows.append(row)
                reading.items.append(item)
    reading.prepared = kept.rows()
    return reading


class _Kept:
    """Collects prepared examples."""

    def __init__(self, recipe: Recipe, most: int) -> None:
        self._recipe = recipe
        self._count = 0
        self._ragged: list[Prepared] | None = None
        self._dense: dict[str, np.ndarray] = {}
        if any(isinstance(size, str) for spec in recipe.fields for size in spec.shape[1:]):
            self._ragged = []
        else:
            self._dense = {spec.name: allocate((most, *spec.shape[1:]), spec.dtype) for spec in recipe.fields}

    def add(self, prepared: Prepared) -> None:
        if self._ragged is not None:
            self._ragged.append(prepared)
        for name, values in self._dense.items():
            values[self._count] = prepared[name]
        self._count += 1

    def rows(self) -> PreparedRows:
        if self._ragged is not None:
            return RaggedRows.of(self._recipe, self._ragged)
        return DenseRows({name: values[: self._count] for name, values in self._dense.items()})


def gather(rows: PreparedRows, order: np.ndarray) -> PreparedRows:
    """Return some rows, in memory or, depending on their size, in a temporary file."""
    if not isinstance(rows, DenseRows):
        return rows.take(order)
    return DenseRows({name: _gather(values, order) for name, values in rows.arrays.items()})


def _gather(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    found = allocate((len(order), *values.shape[1:]), values.dtype)
    for start in range(0, len(order), _CHUNK):
        found[start : start + _CHUNK] = values[order[start : start + _CHUNK]]
    return found


def allocate(shape: tuple[int | str, ...], dtype: np.typing.DTypeLike) -> np.ndarray:
    """Return an empty array in memory, or over 1 GiB in a temporary file that is deleted with it."""
    sizes = tuple(int(size) for size in shape)
    size = int(np.prod(sizes, dtype=np.int64)) * np.dtype(dtype).itemsize
    if size <= MEMORY_BYTES:
        return np.empty(sizes, dtype)
    with tempfile.TemporaryFile(prefix="cultivar-rows-") as file:
        return np.memmap(file, dtype, "w+", shape=sizes)


def _one(row: ListedRow, recipe: Recipe) -> "tuple[Item, Prepared, list[str]] | _Broken":
    texts = recipe.modality == TextRecipe.modality
    raw = _raw(row.content, texts)
    if isinstance(raw, _Broken):
        return raw
    remarks: list[str] = []
    try:
        prepared = _prepared(raw, recipe, remarks)
        digest = Digest.of(content(raw))
    except InputTooLarge as error:
        return _Broken(TOO_LONG if texts else TOO_MANY_PIXELS, str(error))
    except InvalidInput as error:
        return _Broken(NO_TEXT if texts else UNDECODABLE, str(error))
    # The text of a file is kept; of a picture's file, which may be large, only the path.
    kept = row.content if isinstance(row.content, Path) and not texts else raw
    return Item(digest, row.label, row.group, row.origin, kept), prepared, remarks


def _prepared(raw: Raw, recipe: Recipe, remarks: list[str]) -> Prepared:
    if isinstance(recipe, ImageRecipe) and isinstance(raw, bytes):
        return {recipe.fields[0].name: recipe.decode(raw, remark=remarks.append)}
    return recipe.prepare(raw)


def _raw(given: Raw | Path, texts: bool) -> "Raw | _Broken":
    """Return an example, read from its file if it has one."""
    if isinstance(given, tuple):
        return (
            given if all(part.strip() for part in given) else _Broken(EMPTY_TEXT, "a text of a pair is empty")
        )
    if isinstance(given, str):
        return _some(given)
    data = given if isinstance(given, bytes) else _bytes(given)
    if not texts or isinstance(data, _Broken):
        return data
    try:
        return _some(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return _Broken(NO_TEXT, f"expected UTF-8, found the byte 0x{data[error.start]:02x}")


def _some(text: str) -> "str | _Broken":
    return text if text.strip() else _Broken(EMPTY_TEXT, "it has no characters but spaces")


def _bytes(path: Path) -> "bytes | _Broken":
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_ITEM_BYTES + 1)
    except OSError as error:
        return _Broken(UNREADABLE, error.strerror or "cannot be read")
    if len(data) > MAX_ITEM_BYTES:
        return _Broken(TOO_LARGE, "scale it down")
    return data or _Broken(EMPTY, "it has no bytes")


def _workers() -> int:
    return min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
