"""A table of pictures and labels: csv, jsonl or parquet."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adapters.datasets.labels import clean
from adapters.datasets.listing import MAX_ROWS, Listing, Provider, Row
from registry.errors import DatasetError

IMAGE = "image"
LABEL = "label"
GROUP = "group"
MAX_TABLE_BYTES = 1 << 30

Record = tuple[str, Mapping[str, object]]
"""Where a row stands in its file (``line 7``, ``row 3``), and its values by column."""


class CsvReader(Protocol):
    """What ``csv.reader`` returns; it has no public name before Python 3.13."""

    @property
    def line_num(self) -> int:
        """Number of the last line read, from 1."""

    def __next__(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Table(Provider):
    """Rows with the columns ``image`` (a path, relative to the table), ``label`` and optionally ``group``.

    Text is UTF-8. Other columns are ignored.
    """

    path: Path

    def listing(self, labelled: bool) -> Listing:
        """List the rows, and check that each names a file and has a label.

        Raises:
            DatasetError: a column is missing, or a row is malformed; the message names the row.
        """
        columns, records = READERS[self.path.suffix.lower()](self.path)
        for wanted in (IMAGE, LABEL) if labelled else (IMAGE,):
            if wanted not in columns:
                raise DatasetError(
                    f"{self.path}: expected columns {IMAGE!r} and {LABEL!r}, {wanted!r} is missing; "
                    f"found {', '.join(map(repr, columns)) or 'none'}"
                )
        rows: list[Row] = []
        for where, record in records:
            if len(rows) >= MAX_ROWS:
                raise DatasetError(f"{self.path}: a dataset has at most {MAX_ROWS:,} rows")
            rows.append(self._row(where, record, labelled))
        if not rows:
            raise DatasetError(f"{self.path}: expected rows, found none")
        return Listing(tuple(rows))

    def _row(self, where: str, record: Mapping[str, object], labelled: bool) -> Row:
        origin = f"{self.path.name}, {where}"
        return Row(
            content=self._file(origin, record.get(IMAGE)),
            label=_label(origin, record.get(LABEL)) if labelled else None,
            group=_group(origin, record.get(GROUP)),
            origin=origin,
        )

    def _file(self, origin: str, value: object) -> Path:
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise DatasetError(f"{origin}: {IMAGE!r} is a path, got {value!r:.100}")
        file = self.path.parent / value.strip()
        try:
            found = file.is_file()
        except OSError:  # a name that is too long
            found = False
        if not found:
            raise DatasetError(
                f"{origin}: there is no file {str(file)!r:.300}; paths are relative to the table"
            )
        return file


def _label(origin: str, value: object) -> str:
    try:
        return clean(value)
    except ValueError as error:
        raise DatasetError(f"{origin}: expected a label, got {error}") from error


def _group(origin: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and not value.strip()) or value != value:
        return None
    try:
        return clean(value)
    except ValueError as error:
        raise DatasetError(f"{origin}: {GROUP!r} is a text or a number; got {error}") from error


def _text(path: Path) -> str:
    """Return a file's text, UTF-8 with or without a byte order mark."""
    data = _bytes(path)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DatasetError(f"{path.name}, line 1: expected UTF-8, this is UTF-16; save the file as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DatasetError(
            f"{path.name}, line {line}: expected UTF-8, found the byte 0x{data[error.start]:02x}, which is none "
            "(another encoding, or a mixture of several); save the file as UTF-8"
        ) from error


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise DatasetError(f"{path}: a table has at most {MAX_TABLE_BYTES:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: expected a file that can be read; {error.strerror}") from error


def _csv(path: Path) -> tuple[list[str], Iterator[Record]]:
    reader = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    header = [name.strip() for name in next(_csv_lines(path, reader), [])]
    if len(set(header)) != len(header):
        raise DatasetError(f"{path.name}, line 1: a column's name stands twice in {header}")

    def records() -> Iterator[Record]:
        for values in _csv_lines(path, reader):
            where = f"line {reader.line_num}"
            if len(values) != len(header):
                raise DatasetError(
                    f"{path.name}, {where}: expected {len(header)} values, as in the header, got {len(values)}"
                )
            yield where, dict(zip(header, values, strict=True))

    return header, records()


def _csv_lines(path: Path, reader: CsvReader) -> Iterator[list[str]]:
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DatasetError(f"{path.name}, line {reader.line_num}: not csv; {error}") from error
        if values:
            yield values


def _jsonl(path: Path) -> tuple[list[str], Iterator[Record]]:
    lines = [(number, line) for number, line in enumerate(_text(path).split("\n"), 1) if line.strip()]
    columns = list(_json_object(path, *lines[0])) if lines else []
    return columns, ((f"line {number}", _json_object(path, number, line)) for number, line in lines)


def _json_object(path: Path, number: int, line: str) -> dict[str, object]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path.name}, line {number}: expected a JSON object; {error}") from error
    if not isinstance(value, dict):
        raise DatasetError(f"{path.name}, line {number}: expected a JSON object, got {type(value).__name__}")
    return value


def _parquet(path: Path) -> tuple[list[str], Iterator[Record]]:
    import pyarrow
    from pyarrow import parquet

    data = _bytes(path)
    try:
        file = parquet.ParquetFile(pyarrow.BufferReader(data))
        columns = list(file.schema_arrow.names)
        if file.metadata.num_rows > MAX_ROWS:
            raise DatasetError(f"{path}: a dataset has at most {MAX_ROWS:,} rows")
        table = file.read(columns=[name for name in (IMAGE, LABEL, GROUP) if name in columns])
    except (pyarrow.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: expected a parquet file; {str(error)[:300]}") from error

    def records() -> Iterator[Record]:
        number = 0
        for batch in table.to_batches(max_chunksize=10_000):
            for record in batch.to_pylist():
                number += 1
                yield f"row {number}", record

    return columns, records()


READERS: Mapping[str, Callable[[Path], tuple[list[str], Iterator[Record]]]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
