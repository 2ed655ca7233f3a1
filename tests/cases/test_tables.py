"""Tables as people have them: long texts, open quotes, columns without a name, names in two spellings."""

import csv
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pytest
from pyarrow import parquet

from adapters.datasets import load
from registry.errors import DatasetError
from registry.recipe import ImageRecipe
from registry.tables import READERS, read
from tests.adapters.test_datasets_texts import RECIPE, rows
from tests.adapters.written import WRITERS, fill, write_csv

INPUTS = Path(__file__).parent / "inputs"
COLUMNS = ("text", "label")
Form = Literal["NFC", "NFD"]


def written(path: Path, *lines: str, newline: str = "\n") -> Path:
    path.write_text(newline.join(lines) + newline, encoding="utf-8", newline="")
    return path


class TestLongTexts:
    def test_a_text_under_the_documented_limit_is_read(self) -> None:
        data = load(INPUTS / "csv-long-field.csv", RECIPE)
        lengths = [len(str(item.read())) for item in data.items]
        assert max(lengths) == 150_000 and not data.excluded

    @pytest.mark.parametrize("form", WRITERS)
    @pytest.mark.parametrize(("length", "left_out"), [(131_073, 0), (1_000_000, 0), (1_000_001, 1)])
    def test_the_limit_is_the_same_in_every_form(
        self, tmp_path: Path, form: str, length: int, left_out: int
    ) -> None:
        given = rows()
        given[3]["text"] = ("day " * (length // 4 + 1))[:length]
        data = load(WRITERS[form](tmp_path / f"data.{form}", given), RECIPE)
        assert sum(data.excluded.values()) == left_out and len(data) == 12 - left_out

    def test_a_limit_that_somebody_set_is_raised_and_never_lowered(self, tmp_path: Path) -> None:
        file = written(tmp_path / "data.csv", "text,label", "x" * 200_000 + ",a")
        before = csv.field_size_limit()
        try:
            csv.field_size_limit(1000)
            assert len(list(read(file, COLUMNS, 9)[1])) == 1
            csv.field_size_limit(1 << 31)
            assert len(list(read(file, COLUMNS, 9)[1])) == 1 and csv.field_size_limit() == 1 << 31
        finally:
            csv.field_size_limit(before)


class TestQuotes:
    def test_an_open_quote_is_named_by_the_line_it_opens_in(self) -> None:
        with pytest.raises(
            DatasetError, match=r"csv-open-quote\.csv, line 5: not csv; the quote that opens in this line"
        ):
            load(INPUTS / "csv-open-quote.csv", RECIPE)

    @pytest.mark.parametrize(
        ("lines", "line"),
        [
            (["a,b", '"never closed,x', "c,d"], 3),
            (['"two', 'lines",x', "a,b", '"open,x'], 5),
            (['"he said ""no""",x', "a,b", 'c,"open', "d,e"], 4),
            (['"two', 'lines","and open', "a,b"], 3),
            (['"open,x', "a,b", '"closed here" and more,x'], 2),
            (['"shut" and more,x'], 2),
            (["", "", '"open,x', ""], 4),
        ],
    )
    @pytest.mark.parametrize("newline", ["\n", "\r\n"])
    def test_wherever_it_opens(self, tmp_path: Path, lines: Sequence[str], line: int, newline: str) -> None:
        file = written(tmp_path / "data.csv", "text,label", *lines, newline=newline)
        with pytest.raises(DatasetError, match=rf"data\.csv, line {line}: not csv"):
            list(read(file, COLUMNS, 99)[1])

    def test_a_row_that_swallowed_others_is_named_by_its_first_line(self, tmp_path: Path) -> None:
        file = written(tmp_path / "data.csv", "text,label", "a,b", '"open,x', "c,d", 'e"', "f,g")
        with pytest.raises(
            DatasetError, match=r"line 3: expected 2 values, as in the header, got 1; put a text with a comma"
        ):
            list(read(file, COLUMNS, 99)[1])


class TestColumns:
    def test_columns_without_a_name_may_repeat(self) -> None:
        data = load(INPUTS / "csv-dup-unnamed.csv", RECIPE)
        assert data.labels == ("neg", "pos") and not data.excluded

    @pytest.mark.parametrize(
        "header", [",text,label,", "note,text,note,label", "text,label,Unnamed: 0,Unnamed: 0"]
    )
    def test_columns_that_do_not_matter_may_repeat(self, tmp_path: Path, header: str) -> None:
        names = header.split(",")
        values = ["day" if name == "text" else "a" for name in names]
        file = written(tmp_path / "data.csv", header, ",".join(values))
        (record,) = [record for _, record in read(file, COLUMNS, 9)[1]]
        assert record["text"] == "day" and record["label"] == "a"

    @pytest.mark.parametrize("form", READERS)
    @pytest.mark.parametrize("name", COLUMNS)
    def test_one_that_matters_may_not(self, tmp_path: Path, form: str, name: str) -> None:
        file = tmp_path / f"data{form}"
        if form == ".csv":
            written(file, f"text,label,{name}", "a,b,c")
        elif form == ".jsonl":
            written(file, f'{{"text": "a", "label": "b", "{name}": "c"}}')
        else:
            parquet.write_table(pa.table([pa.array(["a"])] * 3, names=["text", "label", name]), file)
        with pytest.raises(DatasetError, match=f"expected one column '{name}', found 2; rename one"):
            list(read(file, COLUMNS, 9)[1])

    @pytest.mark.parametrize(("separator", "said"), [(";", "semicolons"), ("\t", "tabs")])
    def test_another_separator_is_named(self, tmp_path: Path, separator: str, said: str) -> None:
        file = written(tmp_path / "data.csv", separator.join(COLUMNS), separator.join(("a day", "x")))
        with pytest.raises(
            DatasetError, match=f"line 1: expected columns separated by commas, these are separated by {said}"
        ):
            read(file, COLUMNS, 9)

    @pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    def test_every_line_ending_is_read_with_and_without_a_mark(
        self, tmp_path: Path, newline: str, mark: str
    ) -> None:
        file = written(tmp_path / "data.csv", mark + "text,label", "a day,x", newline=newline)
        assert [record for _, record in read(file, COLUMNS, 9)[1]] == [{"text": "a day", "label": "x"}]


class TestFileNames:
    """Files on disk and names in a table, composed and decomposed."""

    @pytest.mark.parametrize(
        ("disk", "listed"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFC", "NFC"), ("NFD", "NFD")]
    )
    @pytest.mark.parametrize("form", WRITERS)
    def test_both_spellings_meet(self, tmp_path: Path, form: str, disk: Form, listed: Form) -> None:
        given: list[dict[str, object]] = []
        for seed, name in enumerate(fill(tmp_path / "plain", 0, 12).iterdir()):
            folder = unicodedata.normalize(disk, "Gâteaux")
            file = tmp_path / folder / unicodedata.normalize(disk, f"crème{seed}.png")
            file.parent.mkdir(exist_ok=True)
            name.rename(file)
            path = unicodedata.normalize(listed, str(file.relative_to(tmp_path)))
            given.append({"image": path, "label": "ab"[seed % 2], "other": seed})
        data = load(WRITERS[form](tmp_path / f"data.{form}", given), ImageRecipe(8, 8))
        assert len(data) == 12 and not data.excluded

    def test_a_composed_folder_holds_a_decomposed_file(self, tmp_path: Path) -> None:
        folder, name = unicodedata.normalize("NFC", "Gâteaux"), unicodedata.normalize("NFD", "crème.png")
        for seed in range(6):
            for label in "ab":
                fill(tmp_path / folder / label, seed + 100 * ord(label), 1)
        for file in sorted((tmp_path / folder).rglob("*.png")):
            file.rename(file.with_name(f"{file.stem}{name}"))
        listed: list[dict[str, object]] = [
            {"image": unicodedata.normalize("NFC", str(file)), "label": file.parent.name}
            for file in (tmp_path / folder).rglob("*.png")
        ]
        data = load(write_csv(tmp_path / "list.csv", listed), ImageRecipe(8, 8))
        assert len(data) == 12

    def test_two_files_that_differ_in_nothing_else_are_told_apart_or_refused(self, tmp_path: Path) -> None:
        names = [unicodedata.normalize(form, "é\u0301\u0323.png") for form in ("NFC", "NFD")]
        for seed, name in enumerate(names):
            fill(tmp_path / "plain", seed, 1)
            (tmp_path / "plain" / f"{seed}.png").rename(tmp_path / name)
        if len(list(tmp_path.glob("*.png"))) < 2:
            pytest.skip("this file system knows one spelling")
        third = "e\u0301\u0301\u0323.png"
        assert third not in names
        file = write_csv(tmp_path / "list.csv", [{"image": third, "label": "a"}])
        with pytest.raises(
            DatasetError, match="found 2 whose names differ in Unicode's composition alone; rename one"
        ):
            load(file, ImageRecipe(8, 8))

    @pytest.mark.parametrize("name", ["crème.png", "x" * 5000, "../nothing/crème.png", "/crème/nothing.png"])
    def test_what_is_not_there_is_named(self, tmp_path: Path, name: str) -> None:
        file = write_csv(tmp_path / "list.csv", [{"image": name, "label": "a"}])
        with pytest.raises(
            DatasetError, match=r"line 2: there is no file .*; paths are relative to the table"
        ):
            load(file, ImageRecipe(8, 8))
