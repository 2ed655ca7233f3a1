"""The inputs of the offline commands: pictures in files and folders, texts in files and tables."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from registry.errors import DatasetError, InvalidInput, WrongModality
from registry.folders import files
from registry.quoting import quoted
from registry.recipe import Raw, TextRecipe
from registry.recipe.image import SUFFIXES
from registry.tables import MAX_TABLE_BYTES, READERS, bytes_of, read, text_of

LINES = ".txt"
STDIN = Path("-")
TEXT = "text"
TEXT_PAIR = "text_pair"
MAX_TEXTS = 5_000_000
"""Rows of one table; they are held in memory."""


@dataclass(frozen=True, slots=True)
class PictureFile:
    """One picture.

    Attributes:
        path: its file.
    """

    path: Path

    @property
    def name(self) -> str:
        """Its name in answers: the path as given."""
        return str(self.path)

    @property
    def origin(self) -> str:
        """Where it is, for messages."""
        return str(self.path)

    def read(self) -> Raw:
        """Return the file's bytes.

        Raises:
            InvalidInput: it cannot be read.
        """
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise InvalidInput(f"expected a file that can be read; {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class TextRow:
    """One text, or a pair of texts.

    Attributes:
        raw: the text or the pair.
        origin: its file and row, for messages.
        table: the table that it is a row of, or None.
    """

    raw: str | tuple[str, str]
    origin: str
    table: Path | None = None

    @property
    def name(self) -> str | list[str]:
        """Its name in answers: the text itself, or the list of both texts."""
        return self.raw if isinstance(self.raw, str) else list(self.raw)

    def read(self) -> Raw:
        """Return the text or the pair."""
        return self.raw


Input: TypeAlias = PictureFile | TextRow


def inputs_of(
    paths: Sequence[Path], modality: str, say: Callable[[str], None] = lambda _: None
) -> list[Input]:
    """Return all inputs that some arguments name, in order.

    Args:
        paths: for pictures, files and folders; for texts, ``.txt`` files with one text per line (``-`` is standard
            input), and tables with the column ``text`` and optionally ``text_pair``.
        modality: the modality of the version.
        say: called with a sentence for each reason why files in folders were skipped.

    Raises:
        InvalidInput: a path is none of these, or contains no input.
        DatasetError: a file of texts cannot be read; the message names file and row.
    """
    if modality == TextRecipe.modality:
        return [found for path in paths for found in _texts(path)]
    return [found for path in paths for found in _pictures(path, say)]


def _pictures(path: Path, say: Callable[[str], None]) -> Sequence[Input]:
    if path == STDIN:
        raise InvalidInput("this model takes pictures: expected files or folders, got standard input")
    if not path.is_dir():
        if path.suffix.lower() in (LINES, *READERS):
            raise WrongModality(
                f"{path}: this model takes pictures: expected a picture's file or a folder, got a file of texts"
            )
        return [PictureFile(path)]
    passed: Counter[str] = Counter()
    inside = sorted(file for file in files(path, path, passed) if file.suffix.lower() in SUFFIXES)
    for reason, count in sorted(passed.items()):
        say(f"{path}: passed over, {reason}: {count}")
    if not inside:
        raise InvalidInput(f"{path}: expected a folder with pictures ({', '.join(sorted(SUFFIXES))})")
    return [PictureFile(file) for file in inside]


def _texts(path: Path) -> Sequence[Input]:
    suffix = path.suffix.lower()
    if path == STDIN:
        found = list(_lines(_standard_input(), "standard input"))
    elif path.is_file() and suffix == LINES:
        found = list(_lines(bytes_of(path), path.name))
    elif path.is_file() and suffix in READERS:
        found = list(_rows(path))
    else:
        raise InvalidInput(
            f"{path}: this model takes texts: expected a file ending in {LINES}, {', '.join(READERS)}, "
            "or - for standard input"
        )
    if not found:
        raise InvalidInput(f"{path}: expected texts, found none")
    return found


def _standard_input() -> bytes:
    data = sys.stdin.buffer.read(MAX_TABLE_BYTES + 1)
    if len(data) > MAX_TABLE_BYTES:
        raise DatasetError(f"standard input: expected at most {MAX_TABLE_BYTES:,} bytes, got more")
    return data


def _lines(data: bytes, name: str) -> Iterator[TextRow]:
    """Yield every line, including empty ones, so that there is one answer per line."""
    lines = text_of(data, name).split("\n")
    if not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, 1):
        yield TextRow(line.removesuffix("\r"), f"{name}, line {number}")


def _rows(path: Path) -> Iterator[TextRow]:
    columns, records = read(path, (TEXT, TEXT_PAIR), MAX_TEXTS)
    if TEXT not in columns:
        raise DatasetError(
            f"{path.name}: expected a column {TEXT!r}, found {', '.join(map(repr, columns)) or 'none'}"
        )
    wanted = (TEXT, TEXT_PAIR) if TEXT_PAIR in columns else (TEXT,)
    for where, record in records:
        origin = f"{path.name}, {where}"
        texts = [_text(record, column, origin) for column in wanted]
        yield TextRow(texts[0] if len(texts) == 1 else (texts[0], texts[1]), origin, path)


def other_columns(inputs: Sequence[Input]) -> tuple[str, ...]:
    """Return the names of the other columns of the inputs' tables, in order of first occurrence.

    Columns without a name are left out.

    Raises:
        DatasetError: a name occurs twice in a table.
    """
    found: dict[str, None] = {}
    for path in dict.fromkeys(each.table for each in inputs if isinstance(each, TextRow) and each.table):
        columns, records = read(path, (), MAX_TEXTS)
        if path.suffix.lower() == ".jsonl":
            columns = list(dict.fromkeys(name for _, record in records for name in record))
        twice = next((name for name in columns if name and columns.count(name) > 1), None)
        if twice is not None:
            raise DatasetError(f"{path.name}: the column {twice!r} occurs twice; rename one of them")
        found |= dict.fromkeys(name for name in columns if name and name not in (TEXT, TEXT_PAIR))
    return tuple(found)


def others(inputs: Sequence[Input], columns: Sequence[str]) -> Iterator[Mapping[str, object]]:
    """Yield for each input the values of other columns, read again from its table; nothing if it has no table.

    Raises:
        DatasetError: a table has changed since the inputs were read.
    """
    reading: Path | None = None
    records: Iterator[Mapping[str, object]] = iter(())
    for each in inputs:
        table = each.table if isinstance(each, TextRow) and columns else None
        if table is None:
            yield {}
            continue
        record = next(records, None) if table == reading else None
        if record is None:
            reading, records = table, (row for _, row in read(table, (TEXT, *columns), MAX_TEXTS)[1])
            record = next(records, {})
        text = each.name if isinstance(each.name, str) else each.name[0]
        if record.get(TEXT) != text:
            raise DatasetError(f"{each.origin}: expected the text that was read before; the file was changed")
        yield {name: record.get(name) for name in columns}


def _text(record: Mapping[str, object], column: str, origin: str) -> str:
    value = record.get(column)
    if not isinstance(value, str):
        came = "nothing" if value is None else f"{type(value).__name__} {quoted(value)}"
        raise DatasetError(f"{origin}: {column!r} is a text, got {came}")
    return value
