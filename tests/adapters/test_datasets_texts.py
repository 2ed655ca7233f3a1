"""Texts, pairs of texts and several labels: tables and folders, in every state that real data are in."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.datasets import TEST, TRAIN, Dataset, load, reading
from adapters.datasets.rows import RaggedRows
from registry.digests import Digest
from registry.errors import DatasetError, WrongModality
from registry.recipe import ImageRecipe, content
from tests.adapters.written import classes, sides, write_csv, write_jsonl, write_parquet
from tests.builders import text_recipe

RECIPE = text_recipe()
WORDS = ("good", "bad", "bright", "dark", "day", "night")

Row = dict[str, Any]
Writer = Callable[[Path, Sequence[Row]], Path]
WRITERS: Mapping[str, Writer] = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}


def sentence(number: int) -> str:
    """Return a text of its own for each number."""
    digits = np.base_repr(number + 36, 6)
    return " ".join(WORDS[int(digit)] for digit in digits)


def rows(count: int = 12, start: int = 0) -> list[Row]:
    return [{"text": sentence(n), "label": "ab"[n % 2], "other": n} for n in range(start, start + count)]


def tagged(count: int = 24) -> list[Row]:
    """Return rows with none, one or two of the labels ``red`` and ``round``."""
    every: tuple[list[str], ...] = ([], ["red"], ["round"], ["round", "red"])
    return [{"text": sentence(n), "labels": every[n % 4]} for n in range(count)]


def flat(given: Sequence[Row]) -> list[Row]:
    """Return the same with labels as csv has them."""
    return [row | {"labels": "|".join(map(str, row["labels"]))} for row in given]


def table(folder: Path, form: str, given: Sequence[Row], name: str = "data") -> Path:
    several = form == "csv" and given and isinstance(given[0].get("labels"), list)
    return WRITERS[form](folder / f"{name}.{form}", flat(given) if several else given)


@pytest.mark.parametrize("form", WRITERS)
class TestTables:
    def test_texts_and_their_labels_are_read(self, tmp_path: Path, form: str) -> None:
        data = load(table(tmp_path, form, rows()), RECIPE)
        assert data.labels == ("a", "b") and data.kind == "classification" and not data.excluded
        assert {item.read() for item in data.items} == {sentence(n) for n in range(12)}
        assert data.items[0].origin.startswith(f"data.{form}, ")

    def test_rows_belong_to_their_items(self, tmp_path: Path, form: str) -> None:
        data = load(table(tmp_path, form, rows()), RECIPE)
        assert isinstance(data.rows, RaggedRows)
        for at, item in enumerate(data.items):
            ids = RECIPE.prepare(item.read())["input_ids"]
            assert data.rows.batch(np.array([at]))["input_ids"][0, : len(ids)].tolist() == ids.tolist()
            assert item.digest == Digest.of(content(item.read()))

    def test_pairs_are_items_of_their_own(self, tmp_path: Path, form: str) -> None:
        paired = [row | {"text_pair": "the day"} for row in rows()]
        pairs = load(table(tmp_path, form, paired, "pairs"), RECIPE)
        texts = load(table(tmp_path, form, rows(), "texts"), RECIPE)
        assert {item.read() for item in pairs.items} == {(sentence(n), "the day") for n in range(12)}
        assert not {item.digest for item in pairs.items} & {item.digest for item in texts.items}

    def test_an_item_may_have_any_number_of_labels(self, tmp_path: Path, form: str) -> None:
        data = load(table(tmp_path, form, tagged()), RECIPE)
        assert data.labels == ("red", "round") and data.kind == "multilabel"
        labels = {item.read(): item.label for item in data.items}
        assert [labels[sentence(n)] for n in range(4)] == [(), ("red",), ("round",), ("red", "round")]

    def test_targets_of_several_labels_are_ones_and_zeros(self, tmp_path: Path, form: str) -> None:
        data = load(table(tmp_path, form, tagged()), RECIPE)
        targets = data.targets(np.arange(len(data)))
        assert targets.dtype == np.uint8 and targets.shape == (24, 2)
        for item, row in zip(data.items, targets, strict=True):
            assert row.tolist() == [label in item.labels for label in data.labels]
        swapped = data.targets(np.arange(len(data)), ("round", "red"))
        assert np.array_equal(swapped, targets[:, ::-1])

    def test_a_table_with_both_kinds_of_labels_is_refused(self, tmp_path: Path, form: str) -> None:
        both = [row | {"label": "a"} for row in tagged()]
        with pytest.raises(DatasetError, match=r"data\.\w+: expected a column 'label' or .* it has both"):
            load(table(tmp_path, form, both), RECIPE)

    @pytest.mark.parametrize("column", ["text", "label"])
    def test_a_missing_column_is_named_with_those_that_are_there(
        self, tmp_path: Path, form: str, column: str
    ) -> None:
        lacking = [{name: value for name, value in row.items() if name != column} for row in rows()]
        with pytest.raises(DatasetError, match=rf"data\.{form}.*'{column}' is missing; found .*'other'"):
            load(table(tmp_path, form, lacking), RECIPE)

    @pytest.mark.parametrize("label", ["", " "])
    def test_a_text_without_label_is_named(self, tmp_path: Path, form: str, label: str) -> None:
        given = rows()
        given[7]["label"] = label
        named = rf"data\.{form}, (line 9|line 8|row 8): expected a label, got an empty"
        with pytest.raises(DatasetError, match=named):
            load(table(tmp_path, form, given), RECIPE)

    @pytest.mark.parametrize("text", ["", "   "])
    def test_empty_texts_are_left_out_and_counted(self, tmp_path: Path, form: str, text: str) -> None:
        given = rows()
        given[3]["text"] = text
        data = load(table(tmp_path, form, given), RECIPE)
        assert data.excluded == {reading.EMPTY_TEXT: 1} and len(data) == 11
        assert any("empty text: 1" in note for note in data.notes)

    def test_equal_texts_count_once_and_contradicting_ones_not_at_all(
        self, tmp_path: Path, form: str
    ) -> None:
        given = rows(14)
        given += [given[0], given[1] | {"label": "a"}]
        data = load(table(tmp_path, form, given), RECIPE)
        assert data.excluded == {"contradicting labels": 2, "duplicate": 1} and len(data) == 13

    def test_one_set_of_labels_in_two_orders_is_no_contradiction(self, tmp_path: Path, form: str) -> None:
        given: list[Row] = [*tagged(), {"text": sentence(3), "labels": ["red", "round", "red"]}]
        assert load(table(tmp_path, form, given), RECIPE).excluded == {"duplicate": 1}

    def test_labels_are_not_looked_for_where_they_are_not_needed(self, tmp_path: Path, form: str) -> None:
        bare: list[Row] = [{"text": row["text"]} for row in rows()]
        assert load(table(tmp_path, form, bare), RECIPE, labelled=False).labels == ()


class TestDigests:
    @pytest.mark.parametrize("given", [rows(), tagged()], ids=["one", "several"])
    def test_the_form_and_order_of_a_table_do_not_change_a_dataset(
        self, tmp_path: Path, given: list[Row]
    ) -> None:
        found = [
            load(table(tmp_path, form, given[::step]), RECIPE)
            for form, step in zip(WRITERS, (1, -1, 1), strict=True)
        ]
        assert len({data.digest for data in found}) == 1
        assert found[0].split_digests() == found[1].split_digests() == found[2].split_digests()

    def test_they_are_the_same_everywhere(self, tmp_path: Path) -> None:
        data = load(table(tmp_path, "csv", tagged()), RECIPE)
        assert data.digest == "sha256:4e9ad68b8e9cb7f936c2cbd65390cdbee5895ef6a804e7a16abc4f3e5bee6bac"

    def test_another_label_is_another_dataset(self, tmp_path: Path) -> None:
        given = tagged()
        first = load(table(tmp_path, "jsonl", given), RECIPE)
        given[0]["labels"] = ["red"]
        assert load(table(tmp_path, "jsonl", given), RECIPE).digest != first.digest


class TestValues:
    @pytest.mark.parametrize("value", [None, math.nan, 3, ["good"]])
    def test_a_text_that_is_none_is_named_with_its_row(self, tmp_path: Path, value: object) -> None:
        given = rows()
        given[4]["text"] = value
        with pytest.raises(DatasetError, match=r"data\.jsonl, line 5: 'text' is a text, got"):
            load(table(tmp_path, "jsonl", given), RECIPE)

    def test_a_pair_without_its_second_text_is_named(self, tmp_path: Path) -> None:
        paired = [row | {"text_pair": "the day"} for row in rows()]
        paired[5]["text_pair"] = None
        with pytest.raises(DatasetError, match=r"line 6: 'text_pair' is a text, got None"):
            load(table(tmp_path, "jsonl", paired), RECIPE)

    def test_a_pair_of_which_one_is_empty_is_left_out(self, tmp_path: Path) -> None:
        paired = [row | {"text_pair": "the day"} for row in rows()]
        paired[5]["text_pair"] = " "
        assert load(table(tmp_path, "jsonl", paired), RECIPE).excluded == {reading.EMPTY_TEXT: 1}

    @pytest.mark.parametrize("value", [None, math.nan])
    def test_a_label_that_is_none_is_named_with_its_row(self, tmp_path: Path, value: object) -> None:
        given = rows()
        given[2]["label"] = value
        with pytest.raises(DatasetError, match=r"data\.jsonl, line 3: expected a label, got (no|nan)"):
            load(table(tmp_path, "jsonl", given), RECIPE)

    @pytest.mark.parametrize(
        "value", [None, 3, math.nan, ["red", None], ["red", math.nan], [["red"]], "red| |x"]
    )
    def test_labels_that_are_none_are_named_with_their_row(self, tmp_path: Path, value: object) -> None:
        given = tagged()
        given[2]["labels"] = value
        with pytest.raises(DatasetError, match=r"data\.jsonl, line 3: expected a label, got"):
            load(table(tmp_path, "jsonl", given), RECIPE)

    @pytest.mark.parametrize("form", ["csv", "jsonl"])
    def test_mixed_encodings_are_named_by_file_and_line(self, tmp_path: Path, form: str) -> None:
        given = rows()
        given[1]["text"] = "gr\u00fcn"
        file = table(tmp_path, form, given)
        lines = file.read_bytes().split(b"\n")
        lines[4] = lines[4].replace(str(given[3 if form == "csv" else 4]["text"]).encode(), b"gr\xfcn")
        file.write_bytes(b"\n".join(lines))
        with pytest.raises(DatasetError, match=rf"data\.{form}.*line 5: expected UTF-8, found the byte 0xfc"):
            load(file, RECIPE)


class TestFolders:
    def folder(self, path: Path, count: int = 6) -> Path:
        for number, name in enumerate(("cat", "dog")):
            (path / name).mkdir(parents=True)
            for at in range(count):
                (path / name / f"{at}.txt").write_text(sentence(100 * number + at))
        return path

    def test_class_folders_of_text_files_are_read(self, tmp_path: Path) -> None:
        data = load(self.folder(tmp_path), RECIPE)
        assert data.labels == ("cat", "dog") and len(data) == 12
        for item in data.items:
            assert item.label == Path(item.origin).parent.name
            assert item.read() == (tmp_path.parent / item.origin).read_text()

    def test_a_file_and_a_row_of_one_text_are_one_item(self, tmp_path: Path) -> None:
        files = load(self.folder(tmp_path / "data"), RECIPE)
        given: list[Row] = [{"text": item.read(), "label": item.label} for item in files.items]
        assert load(table(tmp_path, "jsonl", given), RECIPE).digest == files.digest

    def test_a_byte_order_mark_is_no_part_of_a_text(self, tmp_path: Path) -> None:
        file = self.folder(tmp_path) / "cat" / "0.txt"
        before = load(tmp_path, RECIPE).digest
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
        assert load(tmp_path, RECIPE).digest == before

    def test_files_that_are_no_text_are_counted_by_their_reason(self, tmp_path: Path) -> None:
        folder = self.folder(tmp_path)
        (folder / "cat" / "latin.txt").write_bytes(b"gr\xfcn")
        (folder / "cat" / "nothing.txt").write_bytes(b"")
        (folder / "dog" / "blank.txt").write_text(" \n")
        data = load(folder, RECIPE)
        assert data.excluded == {reading.EMPTY: 1, reading.EMPTY_TEXT: 1, reading.NO_TEXT: 1}
        assert any("cat/latin.txt: expected UTF-8, found the byte 0xfc" in note for note in data.notes)


class TestDivision:
    def test_every_one_of_several_labels_is_learnt(self, tmp_path: Path) -> None:
        for start in range(0, 200, 10):
            given: list[Row] = [row | {"text": sentence(start * 7 + at)} for at, row in enumerate(tagged(8))]
            data = load(table(tmp_path, "jsonl", given), RECIPE)
            learnt = {label for item in data.split(TRAIN) for label in item.labels}
            assert learnt == {"red", "round"} and len(data.split(TEST)) >= 1

    def test_a_label_of_one_item_is_named(self, tmp_path: Path) -> None:
        given = tagged()
        given[6]["labels"] = ["round", "rare"]
        with pytest.raises(DatasetError, match=r"class 'rare' has one item .*line 7"):
            load(table(tmp_path, "jsonl", given), RECIPE)

    def test_one_of_several_labels_in_the_test_part_only_is_named(self, tmp_path: Path) -> None:
        held: list[Row] = [
            {"text": sentence(500), "labels": ["red", "new"]},
            {"text": sentence(501), "labels": []},
        ]
        with pytest.raises(
            DatasetError, match=r"label 'new' \(test\.jsonl, line 1\) is in the test part only"
        ):
            load(table(tmp_path, "jsonl", tagged()), RECIPE, test=table(tmp_path, "jsonl", held, "test"))

    def test_added_texts_never_change_sides(self, tmp_path: Path) -> None:
        few, many = (load(table(tmp_path, "jsonl", rows(count), str(count)), RECIPE) for count in (60, 150))
        before, after = sides(few), sides(many)
        assert all((after[digest] == TEST) == (part == TEST) for digest, part in before.items())


class TestModalities:
    def test_bundled_pictures_are_no_texts(self) -> None:
        with pytest.raises(
            WrongModality, match=r"example:digits holds pictures, .*; take a source of pictures"
        ):
            load("example:digits", RECIPE)

    def test_a_table_of_pictures_is_none_of_texts(self, tmp_path: Path) -> None:
        given: list[Row] = [{"image": "1.png", "label": "a"}]
        with pytest.raises(WrongModality, match=r"expected a column 'text', .* found 'image'"):
            load(table(tmp_path, "csv", given), RECIPE)

    def test_a_table_of_texts_is_none_of_pictures(self, tmp_path: Path) -> None:
        with pytest.raises(WrongModality, match=r"expected a column 'image', .* found 'text'"):
            load(table(tmp_path, "csv", rows()), ImageRecipe(8, 8))

    def test_a_table_of_both_serves_both(self, tmp_path: Path) -> None:
        classes(tmp_path / "pictures", ("a", "b"))
        files = sorted((tmp_path / "pictures").rglob("*.png"))
        given: list[Row] = [
            {"image": str(file.relative_to(tmp_path)), "text": sentence(at), "label": file.parent.name}
            for at, file in enumerate(files)
        ]
        made: list[Dataset] = [
            load(table(tmp_path, "csv", given), each) for each in (RECIPE, ImageRecipe(8, 8))
        ]
        assert [len(data) for data in made] == [12, 12]

    def test_texts_hold_no_pictures(self, tmp_path: Path) -> None:
        data = load(table(tmp_path, "csv", rows()), RECIPE)
        with pytest.raises(WrongModality, match="holds no pictures"):
            _ = data.pixels

    def test_a_folder_of_pictures_says_what_a_text_would_be(self, tmp_path: Path) -> None:
        said = r"expected texts, which the source takes, and found pictures \(.*cat/0\.png, 12 of 12 files\); take a"
        with pytest.raises(WrongModality, match=said):
            load(classes(tmp_path), RECIPE)

    def test_a_folder_of_texts_holds_no_picture(self, tmp_path: Path) -> None:
        folder = TestFolders().folder(tmp_path)
        with pytest.raises(
            WrongModality, match=r"expected pictures, .* found texts \(.*cat/0\.txt, 12 of 12 files\)"
        ):
            load(folder, ImageRecipe(8, 8))
