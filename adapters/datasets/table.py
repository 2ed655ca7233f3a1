"""A table of pictures and labels: csv, jsonl or parquet."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters.datasets.labels import clean
from adapters.datasets.listing import MAX_ROWS, Listing, Provider, Row
from registry.errors import DatasetError
from registry.tables import read

IMAGE = "image"
LABEL = "label"
GROUP = "group"


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
        columns, records = read(self.path, (IMAGE, LABEL, GROUP), MAX_ROWS)
        for wanted in (IMAGE, LABEL) if labelled else (IMAGE,):
            if wanted not in columns:
                raise DatasetError(
                    f"{self.path}: expected columns {IMAGE!r} and {LABEL!r}, {wanted!r} is missing; "
                    f"found {', '.join(map(repr, columns)) or 'none'}"
                )
        rows = tuple(self._row(where, record, labelled) for where, record in records)
        if not rows:
            raise DatasetError(f"{self.path}: expected rows, found none")
        return Listing(rows)

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
