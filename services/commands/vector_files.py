"""Writes feature vectors to csv, npy and parquet files, completely or not at all."""

import csv
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from uuid import uuid4

import numpy as np

from registry.disk import Need, check_space
from registry.errors import InvalidSetting
from registry.extras import PARQUET
from services.commands.input_files import Input, others
from services.deployment.identity import AnswerIdentity

if TYPE_CHECKING:
    import pyarrow as pa

INPUT = "input"
INPUT_PAIR = "input_pair"
EMBEDDING = "embedding"

_COMPONENT = re.compile(r"f[0-9]+")
_BYTES = {".csv": 14, ".npy": 4, ".parquet": 4}
"""Approximate bytes of one component of a vector."""


@dataclass(frozen=True, slots=True)
class VectorTable:
    """The content of a file besides the vectors.

    Attributes:
        identity: the version that computed the vectors.
        inputs: the inputs of the vectors, in order.
        dimension: length of each vector.
        columns: names of the input tables' other columns, in order; see ``input_files.other_columns``.
    """

    identity: AnswerIdentity
    inputs: Sequence[Input]
    dimension: int
    columns: Sequence[str] = ()

    def others(self) -> Iterator[Mapping[str, object]]:
        """Yield the other columns' values of each input, read again; missing values are null."""
        return others(self.inputs, self.columns)

    @property
    def paired(self) -> bool:
        """Whether any input is a pair of texts."""
        return any(isinstance(each.name, list) for each in self.inputs)

    def chunks(self, batches: Iterator[np.ndarray]) -> "Iterator[_Chunk]":
        """Yield inputs, their other columns and their vectors together, a batch at a time."""
        start, values = 0, self.others()
        for vectors in batches:
            inputs = self.inputs[start : start + len(vectors)]
            yield inputs, list(islice(values, len(inputs))), vectors
            start += len(vectors)


_Chunk: TypeAlias = tuple[Sequence[Input], list[Mapping[str, object]], np.ndarray]


def check_output(output: Path, sources: Sequence[Path]) -> None:
    """Check that vectors can be written to a file, before any are computed.

    Args:
        output: the file.
        sources: the files of the inputs.

    Raises:
        InvalidSetting: its name does not end in ``.csv``, ``.npy`` or ``.parquet``, its folder is missing or cannot be
            written to, or it is one of the inputs.
        MissingExtra: it is a Parquet file, and pyarrow is not installed.
    """
    if output.suffix.lower() not in _WRITERS:
        raise InvalidSetting(f"expected a file ending in {', '.join(_WRITERS)}, got {output}")
    if any(output.resolve() == source.resolve() for source in sources):
        raise InvalidSetting(f"{output}: expected another file than the input, which it would replace")
    if output.is_dir():
        raise InvalidSetting(f"{output}: expected a file, this is a folder")
    try:
        with tempfile.TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise InvalidSetting(
            f"{output}: expected a folder that can be written to at {output.parent}; {error.strerror}"
        ) from error
    if output.suffix.lower() == ".parquet":
        PARQUET.require("writing Parquet")


def check_columns(output: Path, columns: Sequence[str]) -> None:
    """Check that no other column of the input has the name of an added one.

    Raises:
        InvalidSetting: one has.
    """
    suffix = output.suffix.lower()
    added = {INPUT, INPUT_PAIR} if suffix == ".csv" else {INPUT, EMBEDDING}
    clashing = [
        name for name in columns if name in added or (suffix == ".csv" and _COMPONENT.fullmatch(name))
    ]
    if clashing and suffix != ".npy":
        raise InvalidSetting(
            f"the input's column {clashing[0]!r} has the name of one that {output.name} adds; rename it in the input"
        )


def write_vectors(output: Path, table: VectorTable, batches: Iterator[np.ndarray]) -> None:
    """Write feature vectors to a file in the format of its suffix, one row per input, in order.

    ``.csv``: ``input`` (and ``input_pair`` if there are pairs), the input's other columns, ``f0`` to ``f{D-1}`` with
    nine significant digits, which keep a float32 exactly. ``.npy``: float32 [N, D], row n for input n. ``.parquet``:
    ``input`` (text; a list of texts if there are pairs), the input's other columns, and ``embedding`` (float32, a
    list of fixed length); the schema's metadata identifies the version: ``cultivar.ref``, ``cultivar.digest``,
    ``cultivar.space_id``.

    Args:
        output: a file that passed ``check_output``.
        table: the content besides the vectors.
        batches: the vectors in order, float32 [rows, D] at a time.

    Raises:
        InvalidSetting: the file cannot be written.
        StorageFailure: there is too little disk space.
    """
    suffix = output.suffix.lower()
    check_space([Need(output.name, output.parent, len(table.inputs) * table.dimension * _BYTES[suffix])])
    with _replacing(output) as partial:
        _WRITERS[suffix](partial, table, batches)


@contextmanager
def _replacing(output: Path) -> Iterator[Path]:
    """Yield a file next to the output, which replaces the output on success and is deleted otherwise."""
    partial = output.with_name(f".{output.name}.{uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(output)
    except OSError as error:
        raise InvalidSetting(f"{output}: expected a file that can be written; {error.strerror}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _csv(partial: Path, table: VectorTable, batches: Iterator[np.ndarray]) -> None:
    names = [INPUT, INPUT_PAIR] if table.paired else [INPUT]
    components = [f"f{number}" for number in range(table.dimension)]
    with partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*names, *table.columns, *components])
        for inputs, rows, vectors in table.chunks(batches):
            for each, row, vector in zip(inputs, rows, vectors.tolist(), strict=True):
                texts = each.name if isinstance(each.name, list) else [each.name]
                texts = texts + [""] * (len(names) - len(texts))
                values = [_text(row.get(name)) or "" for name in table.columns]
                writer.writerow([*texts, *values, *(f"{value:.9g}" for value in vector)])


def _npy(partial: Path, table: VectorTable, batches: Iterator[np.ndarray]) -> None:
    shape = (len(table.inputs), table.dimension)
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with partial.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for vectors in batches:
            stream.write(np.ascontiguousarray(vectors, "<f4").tobytes())


def _parquet(partial: Path, table: VectorTable, batches: Iterator[np.ndarray]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    kind = pa.list_(pa.string()) if table.paired else pa.string()
    kinds = _kinds(table)
    fields = [pa.field(INPUT, kind), *(pa.field(name, each) for name, each in kinds.items())]
    fields.append(pa.field(EMBEDDING, pa.list_(pa.float32(), table.dimension)))
    identity = table.identity
    metadata = {"ref": identity.ref, "digest": identity.digest, "space_id": identity.space_id or ""}
    schema = pa.schema(fields, {f"cultivar.{name}": value for name, value in metadata.items()})
    with parquet.ParquetWriter(partial, schema) as writer:
        for inputs, rows, vectors in table.chunks(batches):
            names = [each.name for each in inputs]
            if table.paired:
                names = [name if isinstance(name, list) else [name] for name in names]
            columns = [pa.array(names, kind)]
            for name, each in kinds.items():
                values = [row.get(name) for row in rows]
                columns.append(pa.array(map(_text, values) if pa.types.is_string(each) else values, each))
            flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
            columns.append(pa.FixedSizeListArray.from_arrays(flat, table.dimension))
            writer.write_table(pa.table(columns, schema=schema))


def _kinds(table: VectorTable) -> "dict[str, pa.DataType]":
    """Return the type of each input column: boolean or numeric if all its values are, else text."""
    import pyarrow as pa

    found: dict[str, set[type]] = {name: set() for name in table.columns}
    for row in table.others():
        for name, kinds in found.items():
            value = row.get(name)
            if value is not None:
                short = not isinstance(value, int) or -(1 << 63) <= value < 1 << 63
                kinds.add(type(value) if short else str)
    known = {frozenset({bool}): pa.bool_(), frozenset({int}): pa.int64()}
    numbers = (frozenset({float}), frozenset({float, int}))
    known |= dict.fromkeys(numbers, pa.float64())
    return {name: known.get(frozenset(kinds), pa.string()) for name, kinds in found.items()}


def _text(value: object) -> str | None:
    """Return a value of a table as text; lists and objects as JSON."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


_WRITERS: Mapping[str, Callable[[Path, VectorTable, Iterator[np.ndarray]], None]] = {
    ".csv": _csv,
    ".npy": _npy,
    ".parquet": _parquet,
}
