"""Further tables as spreadsheets, databases and people write them."""

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest

from adapters.datasets import Dataset, load
from registry.errors import DatasetError
from registry.recipe import ImageRecipe
from tests.builders import picture, text_recipe

TEXTS, PICTURES = text_recipe(), ImageRecipe(8, 8)
WORDS = ("good", "bad", "bright", "dark", "day", "night")
LIMIT = 1_000_000


def sentence(number: int) -> str:
    return " ".join(WORDS[number // 6**place % 6] for place in range(4))


def rows(count: int = 12, start: int = 0) -> list[str]:
    return [f"{sentence(at)},{'ab'[at % 2]}" for at in range(start, start + count)]


def written(
    folder: Path, lines: Sequence[str], newline: str = "\n", mark: str = "", encoding: str = "utf-8"
) -> Path:
    file = folder / "data.csv"
    file.write_bytes((mark + newline.join(lines) + newline).encode(encoding))
    return file


def refused(file: Path) -> str:
    with pytest.raises(DatasetError) as error:
        load(file, TEXTS)
    message = str(error.value)
    assert "\n" not in message and "data.csv" in message
    return message


def twelve(data: Dataset) -> None:
    assert data.labels == ("a", "b") and len(data) == 12 and not data.excluded


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "mark"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("header", ["text,label", '"text","label"', " text , label ", "TEXT,Label"])
def test_headers_and_line_endings_of_every_program(
    tmp_path: Path, header: str, newline: str, mark: str
) -> None:
    file = written(tmp_path, [header, *rows()], newline, mark)
    if header in ("text,label", '"text","label"'):
        twelve(load(file, TEXTS))
    else:
        try:
            twelve(load(file, TEXTS))
        except DatasetError as error:
            assert "'text'" in str(error) or "'label'" in str(error)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_said(tmp_path: Path, encoding: str) -> None:
    message = refused(written(tmp_path, ["text,label", "crème brûlée,a", *rows()], encoding=encoding))
    assert "UTF-8" in message


@pytest.mark.parametrize(
    ("tail", "line"),
    [
        (['"never closed,a'], 14),
        (['"never closed', "over two,a"], 14),
        (['good,"a'], 14),
        (['"sound ""inner"" text",a', '"open,b'], 15),
        (['"a sound', 'text",a', '"open,b', "", ""], 16),
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_quote_left_open_at_the_end_is_named_by_its_line(
    tmp_path: Path, tail: Sequence[str], line: int, newline: str
) -> None:
    assert f"line {line}" in refused(written(tmp_path, ["text,label", *rows(), *tail], newline))


def test_a_quote_open_in_the_header_is_named(tmp_path: Path) -> None:
    assert "line 1" in refused(written(tmp_path, ['"text,label', *rows()]))


def test_a_quote_open_before_a_long_file_is_named(tmp_path: Path) -> None:
    lines = ["text,label", *rows(6), '"open,a', *(f"the film number {at},b" for at in range(60_000))]
    assert "line 8" in refused(written(tmp_path, lines))


def test_quotes_that_csv_allows_are_read(tmp_path: Path) -> None:
    lines = ["text,label", *rows(9), '"a day, a night",a', '"said ""good""",b', '"two\nlines",a']
    data = load(written(tmp_path, lines), TEXTS)
    assert len(data) == 12
    assert {"a day, a night", 'said "good"', "two\nlines"} <= {str(each.read()) for each in data.items}


def test_an_inch_mark_inside_a_text_is_text(tmp_path: Path) -> None:
    data = load(written(tmp_path, ["text,label", *rows(11), 'a 3" day,b']), TEXTS)
    assert 'a 3" day' in {str(each.read()) for each in data.items}


@pytest.mark.parametrize(
    "header",
    [",text,label,", "note,text,note,label", "text,note,label,note", " ,text,label, ", "id,text,label,id",
     "text,label,,,,", "Unnamed: 0,text,label,Unnamed: 0", "TEXT,text,label,note"],
)  # fmt: skip
def test_columns_that_are_ignored_may_repeat(tmp_path: Path, header: str) -> None:
    names = header.split(",")
    lines = []
    for row in rows():
        values = dict(zip(("text", "label"), row.split(","), strict=True))
        lines.append(",".join(values.get(name, "7") for name in names))
    twelve(load(written(tmp_path, [header, *lines]), TEXTS))


@pytest.mark.parametrize(
    "header", ["text,text,label", "text,label,label", "label,text,label", "text,label,group,group"]
)
def test_columns_that_are_read_may_not(tmp_path: Path, header: str) -> None:
    lines = [",".join("ab"[at % 2] for _ in header.split(",")) for at in range(12)]
    name = max(header.split(","), key=header.split(",").count)
    assert f"'{name}'" in refused(written(tmp_path, [header, *lines]))


def longest(length: int) -> str:
    return ("day night " * (length // 10 + 1))[:length]


@pytest.mark.parametrize("length", [131_071, 131_072, 131_073, 999_999, LIMIT])
def test_a_text_up_to_the_limit_is_read_whole(tmp_path: Path, length: int) -> None:
    data = load(written(tmp_path, ["text,label", *rows(11), f"{longest(length)},b"]), TEXTS)
    assert len(data) == 12 and max(len(str(each.read())) for each in data.items) == length


@pytest.mark.parametrize("quote", ["", '"'], ids=["plain", "quoted"])
def test_a_text_just_over_the_limit_is_counted_and_the_others_read(tmp_path: Path, quote: str) -> None:
    lines = ["text,label", *rows(), f"{quote}{longest(LIMIT + 1)}{quote},b"]
    data = load(written(tmp_path, lines), TEXTS)
    assert len(data) == 12 and sum(data.excluded.values()) == 1


def test_the_limit_counts_characters_and_not_bytes(tmp_path: Path) -> None:
    data = load(written(tmp_path, ["text,label", *rows(11), f"{'夜' * LIMIT},b"]), TEXTS)
    assert len(data) == 12 and not data.excluded


def test_a_long_text_in_a_column_that_is_not_read_costs_nothing(tmp_path: Path) -> None:
    lines = ["text,label,html", *(f"{row},x" for row in rows(11)), f"{rows(12)[11]},{longest(900_000)}"]
    twelve(load(written(tmp_path, lines), TEXTS))


@pytest.mark.parametrize(
    "text", ["a\0day", "a \x1b[31m day", "\ufeffa day", "a \u202eday", "💩 day", "day\u2028night"]
)
def test_odd_characters_in_a_text_are_read_or_named(tmp_path: Path, text: str) -> None:
    file = written(tmp_path, ["text,label", *rows(), f"{text},a"])
    try:
        data = load(file, TEXTS)
    except DatasetError as error:
        assert "14" in str(error) and "\n" not in str(error)
    else:
        assert len(data) + sum(data.excluded.values()) == 13


@pytest.mark.parametrize("values", ["good", "good,a,b", ",a", "good,"])
def test_a_row_of_another_length_or_without_a_value_is_named_or_counted(tmp_path: Path, values: str) -> None:
    file = written(tmp_path, ["text,label", *rows(), values])
    if values == ",a":  # an empty text is left out and counted
        assert sum(load(file, TEXTS).excluded.values()) == 1
    else:
        assert "line 14" in refused(file)


def test_empty_lines_are_no_rows(tmp_path: Path) -> None:
    twelve(load(written(tmp_path, ["text,label", "", *rows(6), "", *rows(6, 6), "", ""]), TEXTS))


@pytest.mark.parametrize("lines", [[], [""], ["text,label"], ["text,label", ""]])
def test_a_table_without_rows_is_said(tmp_path: Path, lines: Sequence[str]) -> None:
    assert refused(written(tmp_path, lines))


NAMES = ("crème", "Ångström", "각하", "ệ", "がぎ")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("disk", "listed"), [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_names_of_files_meet_in_either_composition(
    tmp_path: Path, name: str, disk: str, listed: str, prefix: str
) -> None:
    folder = unicodedata.normalize(disk, f"Bilder {name}")  # type: ignore[arg-type]  # one of four forms
    (tmp_path / folder).mkdir()
    lines = ["image,label"]
    for seed in range(12):
        file = unicodedata.normalize(disk, f"{name}{seed}.png")  # type: ignore[arg-type]  # one of four forms
        (tmp_path / folder / file).write_bytes(picture(seed))
        path = unicodedata.normalize(listed, f"{prefix}{folder}/{file}")  # type: ignore[arg-type]  # one of four forms
        lines.append(f"{path},{'ab'[seed % 2]}")
    twelve(load(written(tmp_path, lines), PICTURES))


def test_half_the_files_in_each_composition_are_found(tmp_path: Path) -> None:
    lines = ["image,label"]
    for seed in range(12):
        name = unicodedata.normalize("NFC" if seed % 3 else "NFD", f"é{seed}.png")
        (tmp_path / name).write_bytes(picture(seed))
        lines.append(f"{unicodedata.normalize('NFD' if seed % 2 else 'NFC', name)},{'ab'[seed % 2]}")
    twelve(load(written(tmp_path, lines), PICTURES))


@pytest.mark.parametrize("path", ["a\\b.png", "file:///x.png", "https://x/y.png", "", "folder", "~/x.png"])
def test_a_path_that_is_no_file_is_named_by_its_line(tmp_path: Path, path: str) -> None:
    (tmp_path / "folder").mkdir()
    lines = ["image,label"]
    for seed in range(12):
        (tmp_path / f"{seed}.png").write_bytes(picture(seed))
        lines.append(f"{seed}.png,{'ab'[seed % 2]}")
    file = written(tmp_path, [*lines, f"{path},a"])
    with pytest.raises(DatasetError, match="line 14") as error:
        load(file, PICTURES)
    assert "\n" not in str(error.value)


def test_a_listed_file_that_a_system_left_behind_is_counted_or_named(tmp_path: Path) -> None:
    lines = ["image,label"]
    for seed in range(12):
        (tmp_path / f"{seed}.png").write_bytes(picture(seed))
        lines.append(f"{seed}.png,{'ab'[seed % 2]}")
    (tmp_path / "._0.png").write_bytes(b"\0\5\x16\7")
    data = load(written(tmp_path, [*lines, "._0.png,a"]), PICTURES)
    assert len(data) == 12 and sum(data.excluded.values()) == 1
