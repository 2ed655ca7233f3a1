"""Tables in files: csv, jsonl and parquet, read row by row.

Text is UTF-8. Error messages name the file and the row.
"""

import csv
import io
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from registry.errors import DatasetError
from registry.extras import PARQUET

MAX_TABLE_BYTES = 1 << 30
"""Most bytes of a file, and of its values."""

_BATCH_ROWS = 64
"""Rows of a parquet file in memory at once; one value may have megabytes."""

Record: TypeAlias = tuple[str, Mapping[str, object]]
"""A row's position in its file (``line 7``, ``row 3``), and its values by column."""

Found: TypeAlias = tuple[list[str], Iterator[Record]]
"""A file's columns and rows."""


def read(path: Path, columns: Collection[str], max_rows: int) -> Found:
    """Read a table.

    Args:
        path: a file whose suffix is one of ``READERS``.
        columns: the columns to read; in a parquet file the others are not read.
        max_rows: most rows.

    Returns:
        The names of all its columns, and an iterator over its rows; a row may have more columns than these. A
        column that is not in ``columns`` may occur several times; the last value is returned.

    Raises:
        DatasetError: the file does not have the format of its suffix, is too large, or has one of ``columns``
            twice; iterating over the rows may raise it too.
    """
    names, records = READERS[path.suffix.lower()](path, columns, max_rows)
    if twice := [name for name in columns if names.count(name) > 1]:
        raise DatasetError(
            f"{path.name}: expected one column {twice[0]!r}, found {names.count(twice[0])}; rename one"
        )
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
    # The csv module has a process-wide limit of 131 072 characters per field; the file size limit is enough.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_TABLE_BYTES))
    lines = _csv_lines(path, text_of(bytes_of(path), path.name))
    _, header = next(lines, (1, []))
    header = [name.strip() for name in header]
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and any(part.strip() in wanted for part in header[0].split(separator)[1:]):
            raise DatasetError(
                f"{path.name}, line 1: expected columns separated by commas, these are separated by {name}; "
                "save it with commas"
            )

    def records() -> Iterator[Record]:
        for start, values in lines:
            if len(values) != len(header):
                raise DatasetError(
                    f"{path.name}, line {start}: expected {len(header)} values, as in the header, got {len(values)}; "
                    "put a text with a comma, a quote or a line break in quotes"
                )
            yield f"line {start}", dict(zip(header, values, strict=True))

    return header, records()


def _csv_lines(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield every row that is not empty, and the line in which it begins, from 1."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        start = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            opened = _quote_line(text, start, reader.line_num)
            raise DatasetError(
                f"{path.name}, line {opened}: not csv; the quote that opens in this line is not closed as it should: "
                f"{error} in line {reader.line_num}"
            ) from error
        if values:
            yield start, values


def _quote_line(text: str, first: int, last: int) -> int:
    """Return the line of the last opening quote between two lines, the first of which begins a row."""
    opened, inside, may_end, may_open = first, False, False, True
    lines = islice(io.StringIO(text, newline=""), first - 1, last)
    for number, line in enumerate(lines, first):
        for letter in line:
            if inside and not may_end:
                may_end = letter == '"'
            elif letter == '"' and (may_end or may_open):
                inside, may_end, opened = True, False, opened if may_end else number
                may_open = False
            else:
                inside, may_end, may_open = False, False, letter in ",\r\n"
    return opened


def _jsonl(path: Path, wanted: Collection[str], max_rows: int) -> Found:
    text = text_of(bytes_of(path), path.name)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    columns = list(_json_object(path, *lines[0], wanted)) if lines else []
    return columns, ((f"line {number}", _json_object(path, number, line, wanted)) for number, line in lines)


def _json_object(path: Path, number: int, line: str, wanted: Collection[str]) -> dict[str, object]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{path.name}, line {number}: expected a JSON object; {error}") from error
    if not isinstance(value, dict):
        raise DatasetError(f"{path.name}, line {number}: expected a JSON object, got {type(value).__name__}")
    for name in wanted:
        # Parse a line again only if a key may occur twice, which is rare.
        if line.count(f'"{name}"') > 1 and (count := _count(line, name)) > 1:
            raise DatasetError(
                f"{path.name}, line {number}: expected one column {name!r}, found {count}; rename one"
            )
    return value


def _count(line: str, name: str) -> int:
    return sum(key == name for key, _ in json.loads(line, object_pairs_hook=list))


def _parquet(path: Path, wanted: Collection[str], max_rows: int) -> Found:
    PARQUET.require("reading Parquet")
    import pyarrow
    from pyarrow import parquet

    source = pyarrow.BufferReader(bytes_of(path))

    def broken(error: Exception) -> DatasetError:
        return DatasetError(f"{path}: expected a parquet file; {' '.join(str(error).split())[:300]}")

    try:
        schema = parquet.read_schema(source)
        columns = list(schema.names)
        # Dictionary values stay encoded: a kilobyte of them can expand to gigabytes.
        texts = [
            name
            for name in columns
            if name in wanted and columns.count(name) == 1 and _is_text(schema.field(name).type)
        ]
        file = parquet.ParquetFile(source, read_dictionary=texts)
    # On broken metadata pyarrow raises various exceptions, not only its own.
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        raise broken(error) from error
    if file.metadata.num_rows > max_rows:
        raise _too_long(path, max_rows)

    def records() -> Iterator[Record]:
        number = size = 0
        try:
            for batch in file.iter_batches(_BATCH_ROWS, columns=[name for name in columns if name in wanted]):
                size += sum(map(_text_bytes, batch.columns))
                if size > MAX_TABLE_BYTES:
                    raise _too_large(path)
                for row in range(batch.num_rows):
                    number += 1
                    yield f"row {number}", {name: batch[name][row].as_py() for name in batch.schema.names}
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise broken(error) from error

    return columns, records()


def _is_text(type_: Any) -> bool:
    from pyarrow import types

    return any(check(type_) for check in (types.is_string, types.is_binary))


def _text_bytes(column: Any) -> int:
    """Return the size of a column's values in bytes; repeated values count repeatedly."""
    import pyarrow
    from pyarrow import compute

    if pyarrow.types.is_dictionary(column.type):
        lengths = compute.binary_length(column.dictionary).take(column.indices)
        return int(compute.sum(lengths).as_py() or 0)
    return int(column.nbytes)


def _too_large(path: Path) -> DatasetError:
    return DatasetError(f"{path}: a table's values come to at most {MAX_TABLE_BYTES:,} bytes")


READERS: Mapping[str, Callable[[Path, Collection[str], int], Found]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
