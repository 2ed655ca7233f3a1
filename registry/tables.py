"""Tables in files: csv, jsonl and parquet, read row by row.

Text is UTF-8. What is wrong with a file is said with its name and the row.
"""

import csv
import io
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

from registry.errors import DatasetError

MAX_TABLE_BYTES = 1 << 30

Record: TypeAlias = tuple[str, Mapping[str, object]]
"""Where a row stands in its file (``line 7``, ``row 3``), and its values by column."""

Found: TypeAlias = tuple[list[str], Iterator[Record]]
"""The columns that a file has, and its rows."""


class CsvReader(Protocol):
    """What ``csv.reader`` returns; it has no public name before Python 3.13."""

    @property
    def line_num(self) -> int:
        """Number of the last line read, from 1."""

    def __next__(self) -> list[str]: ...


def read(path: Path, columns: Collection[str], max_rows: int) -> Found:
    """Read a table.

    Args:
        path: a file whose suffix is one of ``READERS``.
        columns: the columns that matter; a parquet file's others are not read.
        max_rows: rows that it may have.

    Returns:
        The names of all its columns, and its rows, read as they are asked for; some may have more
        columns than these.

    Raises:
        DatasetError: the file is not what its suffix says, or too large; the rows may raise it too.
    """
    names, records = READERS[path.suffix.lower()](path, columns, max_rows)
    return names, _at_most(path, records, max_rows)


def _at_most(path: Path, records: Iterator[Record], max_rows: int) -> Iterator[Record]:
    for number, record in enumerate(records):
        if number >= max_rows:
            raise _too_long(path, max_rows)
        yield record


def _too_long(path: Path, max_rows: int) -> DatasetError:
    return DatasetError(f"{path}: a table has at most {max_rows:,} rows")


def text_of(data: bytes, name: str) -> str:
    """Return a file's text, UTF-8 with or without a byte order mark.

    Raises:
        DatasetError: it is not UTF-8; the message names the file and the line.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DatasetError(f"{name}, line 1: expected UTF-8, this is UTF-16; save the file as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DatasetError(
            f"{name}, line {line}: expected UTF-8, found the byte 0x{data[error.start]:02x}, which is none "
            "(another encoding, or a mixture of several); save the file as UTF-8"
        ) from error


def bytes_of(path: Path) -> bytes:
    """Return a file's bytes.

    Raises:
        DatasetError: it cannot be read, or has over 1 GiB.
    """
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise DatasetError(f"{path}: a table has at most {MAX_TABLE_BYTES:,} bytes")
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: expected a file that can be read; {error.strerror}") from error


def _csv(path: Path, wanted: Collection[str], max_rows: int) -> Found:
    reader = csv.reader(io.StringIO(text_of(bytes_of(path), path.name), newline=""), strict=True)
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


def _jsonl(path: Path, wanted: Collection[str], max_rows: int) -> Found:
    text = text_of(bytes_of(path), path.name)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
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


def _parquet(path: Path, wanted: Collection[str], max_rows: int) -> Found:
    import pyarrow
    from pyarrow import parquet

    data = bytes_of(path)
    try:
        file = parquet.ParquetFile(pyarrow.BufferReader(data))
        columns = list(file.schema_arrow.names)
        if file.metadata.num_rows > max_rows:
            raise _too_long(path, max_rows)
        table = file.read(columns=[name for name in columns if name in wanted])
    except (pyarrow.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: expected a parquet file; {str(error)[:300]}") from error

    def records() -> Iterator[Record]:
        number = 0
        for batch in table.to_batches(max_chunksize=10_000):
            for record in batch.to_pylist():
                number += 1
                yield f"row {number}", record

    return columns, records()


READERS: Mapping[str, Callable[[Path, Collection[str], int], Found]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
