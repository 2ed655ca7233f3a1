"""A table of pictures or texts, and labels: csv, jsonl or parquet."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.datasets.item import Label
from adapters.datasets.labels import clean, plain_numbers
from adapters.datasets.listing import MAX_ROWS, DatasetProvider, ListedRow, Listing
from registry.errors import DatasetError, WrongModality
from registry.quoting import quoted
from registry.recipe import Raw
from registry.spelling import FileNames
from registry.tables import read

IMAGE = "image"
TEXT = "text"
TEXT_PAIR = "text_pair"
LABEL = "label"
LABELS = "labels"
GROUP = "group"
SEPARATOR = "|"
"""Separator between an example's labels in a text column."""

_MISSING = frozenset({"nan", "null", "none", "na", "n/a"})


@dataclass(frozen=True, slots=True)
class TableProvider(DatasetProvider):
    """Rows with an input, a label and optionally a group.

    The input is in the column ``image`` (a path, relative to the table) or ``text``, for pairs with
    ``text_pair``. The label is in ``label``; any number of labels are in ``labels``, as a list or as text
    such as ``red|round``. The group is in ``group``. Text is UTF-8. Other columns are ignored.

    Attributes:
        path: the file.
        modality: ``image`` or ``text``: the column of the inputs.
    """

    path: Path
    modality: str = IMAGE

    def listing(self, labelled: bool) -> Listing:
        """List the rows, and check that each has an input and a label.

        Raises:
            DatasetError: a column is missing, or a row is malformed; the message names the row.
            WrongModality: the table has only inputs of the other modality.
        """
        columns, records = read(self.path, (IMAGE, TEXT, TEXT_PAIR, LABEL, LABELS, GROUP), MAX_ROWS)
        if LABEL in columns and LABELS in columns:
            raise DatasetError(
                f"{self.path}: expected a column {LABEL!r} or a column {LABELS!r}, it has both"
            )
        other = IMAGE if self.modality == TEXT else TEXT
        if self.modality not in columns and other in columns:
            raise WrongModality(
                f"{self.path}: expected a column {self.modality!r}, which the source takes, and found {other!r}; "
                f"take a source of the modality {other}, or other data"
            )
        label = LABELS if LABELS in columns else LABEL
        for wanted in (self.modality, label) if labelled else (self.modality,):
            if wanted not in columns:
                raise DatasetError(
                    f"{self.path}: expected columns {self.modality!r} and {LABEL!r}, {wanted!r} is missing; "
                    f"found {', '.join(map(repr, columns)) or 'none'}"
                )
        pairs = TEXT_PAIR in columns
        names = FileNames()
        rows = tuple(
            self._row(where, record, label if labelled else None, pairs, names) for where, record in records
        )
        if not rows:
            raise DatasetError(f"{self.path}: expected rows, found none")
        rows, remarks = _plain(rows)
        for row in rows:
            remarks.update(f"the text {each!r} is read as a label" for each in _missing(row.label))
        return Listing(rows, remarks=dict(remarks))

    def _row(
        self, where: str, record: Mapping[str, object], label: str | None, pairs: bool, names: FileNames
    ) -> ListedRow:
        origin = f"{self.path.name}, {where}"
        return ListedRow(
            content=self._file(origin, record.get(IMAGE), names)
            if self.modality == IMAGE
            else _text(origin, record, pairs),
            label=None if label is None else _label(origin, record.get(label), label == LABELS),
            group=_group(origin, record.get(GROUP)),
            origin=origin,
        )

    def _file(self, origin: str, value: object, names: FileNames) -> Path:
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise DatasetError(f"{origin}: {IMAGE!r} is a path, got {quoted(value)}")
        name = value.strip()
        file = names.find(self.path.parent, name)
        if file is None:
            wanted = quoted(str(self.path.parent / name), 300)
            raise DatasetError(f"{origin}: there is no file {wanted}; paths are relative to the table")
        return file


def _plain(rows: tuple[ListedRow, ...]) -> tuple[tuple[ListedRow, ...], Counter[str]]:
    """Read all-numeric labels as numbers; return the rows, and the number written with ``.0``."""
    plain = plain_numbers(each for row in rows for each in _each(row.label))
    if not plain:
        return rows, Counter()
    first = min(plain)
    remark = f"labels like {first!r} are read as whole numbers, {plain[first]!r}"
    count = sum(any(each in plain for each in _each(row.label)) for row in rows)
    return tuple(replace(row, label=_replaced(row.label, plain)) for row in rows), Counter({remark: count})


def _replaced(label: Label | None, plain: Mapping[str, str]) -> Label | None:
    if isinstance(label, tuple):
        return tuple(sorted({plain.get(each, each) for each in label}))
    return label if label is None else plain.get(label, label)


def _missing(label: Label | None) -> list[str]:
    """Return the texts that other programs write for a missing label."""
    return [each for each in _each(label) if each.casefold() in _MISSING]


def _each(label: Label | None) -> tuple[str, ...]:
    return label if isinstance(label, tuple) else () if label is None else (label,)


def _text(origin: str, record: Mapping[str, object], pairs: bool) -> Raw:
    def one(column: str) -> str:
        value = record.get(column)
        if not isinstance(value, str):
            raise DatasetError(f"{origin}: {column!r} is a text, got {quoted(value)}")
        return value

    return (one(TEXT), one(TEXT_PAIR)) if pairs else one(TEXT)


def _label(origin: str, value: object, several: bool) -> Label:
    try:
        if not several:
            return clean(value)
        parts = value.split(SEPARATOR) if isinstance(value, str) else value
        if not isinstance(parts, list | tuple):
            raise ValueError("none; a list of labels, or an empty one, is expected")
        return tuple(sorted({clean(part) for part in parts if part != ""}))
    except ValueError as error:
        raise DatasetError(f"{origin}: expected a label, got {error}") from error


def _group(origin: str, value: object) -> str | None:
    if value is None or (isinstance(value, str) and not value.strip()) or value != value:
        return None
    try:
        if isinstance(value, str) and value.strip().casefold() == "nan":
            raise ValueError("NaN; leave it empty where there is none")
        return clean(value)
    except ValueError as error:
        raise DatasetError(f"{origin}: {GROUP!r} is a text or a number; got {error}") from error
