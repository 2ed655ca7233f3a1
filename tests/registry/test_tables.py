"""Tables are read row by row, and what is wrong with them is said with the row."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from registry.errors import DatasetError
from registry.tables import READERS, read

ROWS = [{"text": 'a "quoted", é😀', "label": "x"}, {"text": "two\nlines", "label": "y"}]


def table(folder: Path, suffix: str) -> Path:
    path = folder / f"table{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif suffix == ".jsonl":
        path.write_text(
            '{"text": "a \\"quoted\\", é😀", "label": "x"}\n\n{"text": "two\\nlines", "label": "y"}', "utf-8"
        )
    else:
        path.write_text('\ufefftext, label\r\n"a ""quoted"", é😀",x\r\n\r\n"two\nlines",y\r\n', "utf-8")
    return path


@pytest.mark.parametrize("suffix", READERS)
def test_every_form_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    columns, records = read(table(tmp_path, suffix), ("text", "label"), 2)
    assert columns == ["text", "label"]
    assert [record for _, record in records] == ROWS


def test_rows_say_where_they_stand(tmp_path: Path) -> None:
    places = {
        suffix: [where for where, _ in read(table(tmp_path, suffix), ("text",), 2)[1]] for suffix in READERS
    }
    assert places == {
        ".csv": ["line 2", "line 4"], ".jsonl": ["line 1", "line 3"], ".parquet": ["row 1", "row 2"],
    }  # fmt: skip


@pytest.mark.parametrize("suffix", READERS)
def test_more_rows_than_allowed_are_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DatasetError, match="at most 1 rows"):
        list(read(table(tmp_path, suffix), ("text",), 1)[1])


def test_columns_that_do_not_matter_are_not_read_from_parquet(tmp_path: Path) -> None:
    columns, records = read(table(tmp_path, ".parquet"), ("label",), 2)
    assert columns == ["text", "label"]
    assert [record for _, record in records] == [{"label": "x"}, {"label": "y"}]


@pytest.mark.parametrize("suffix", READERS)
def test_a_file_that_is_not_there_is_refused(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DatasetError, match="can be read"):
        read(tmp_path / f"nothing{suffix}", ("text",), 2)
