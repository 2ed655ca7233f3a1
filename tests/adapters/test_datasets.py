"""Data in every form that is read, and in every state that real data are in."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from adapters.datasets import TEST, TRAIN, VALIDATION, load, reading
from adapters.datasets.labels import clean, ordered
from registry.digests import Digest
from registry.errors import DatasetError, InvalidValue
from registry.progress import Bars
from registry.recipe import ImageRecipe
from tests.adapters.written import (
    RECIPE,
    WRITERS,
    classes,
    fill,
    png,
    table_rows,
    write_csv,
    write_jsonl,
    write_parquet,
)


class TestFolders:
    def test_a_folder_of_class_folders_is_read(self, tmp_path: Path) -> None:
        data = load(classes(tmp_path, count=20), RECIPE)
        assert data.labels == ("cat", "dog")
        assert len(data) == 40 and data.pixels.shape == (40, 8, 8, 3) and data.pixels.dtype == np.uint8
        assert set(data.parts) == {TRAIN, TEST} and not data.excluded

    def test_rows_belong_to_their_items(self, tmp_path: Path) -> None:
        data = load(classes(tmp_path), RECIPE)
        for item, row in zip(data.items, data.pixels, strict=True):
            raw = item.read()
            assert isinstance(raw, bytes) and Digest.of(raw) == item.digest
            assert np.array_equal(row, RECIPE.decode(raw))
            assert item.label == Path(item.origin).parent.name

    @pytest.mark.parametrize("validation", ["val", "valid", "validation"])
    def test_train_val_and_test_inside_are_kept(self, tmp_path: Path, validation: str) -> None:
        for start, part in enumerate(["train", validation, "test"]):
            classes(tmp_path / part, start=100 * start)
        data = load(tmp_path, RECIPE)
        assert {name: len(index) for name, index in data.parts.items()} == {
            TRAIN: 12,
            VALIDATION: 12,
            TEST: 12,
        }
        assert all(Path(item.origin).parts[1] == "train" for item in data.split(TRAIN))

    def test_splits_without_class_folders_are_no_labels(self, tmp_path: Path) -> None:
        with pytest.raises(
            DatasetError, match="expected class folders inside 'test' and 'train', there are none"
        ):
            load(classes(tmp_path, ("train", "test")), RECIPE)
        assert {*load(tmp_path, RECIPE, labelled=False).parts} == {TRAIN, TEST}

    def test_a_test_part_of_its_own_is_held_out(self, tmp_path: Path) -> None:
        data = load(classes(tmp_path / "a"), RECIPE, test=classes(tmp_path / "b", start=50))
        assert len(data.split(TRAIN)) == 12 and len(data.split(TEST)) == 12
        assert all(item.origin.startswith("b/") for item in data.split(TEST))

    def test_two_test_parts_are_one_too_many(self, tmp_path: Path) -> None:
        for start, part in enumerate(["train", "test"]):
            classes(tmp_path / "a" / part, start=100 * start)
        with pytest.raises(DatasetError, match="already holds a test part"):
            load(tmp_path / "a", RECIPE, test=classes(tmp_path / "b"))

    def test_systems_own_files_are_no_data(self, tmp_path: Path) -> None:
        classes(tmp_path)
        for name in (".DS_Store", "cat/.DS_Store", "cat/Thumbs.db", "dog/desktop.ini"):
            (tmp_path / name).write_bytes(b"junk")
        (tmp_path / ".git").mkdir()
        data = load(tmp_path, RECIPE)
        assert len(data) == 12 and not data.excluded and data.labels == ("cat", "dog")

    def test_files_beside_the_classes_are_counted(self, tmp_path: Path) -> None:
        (classes(tmp_path) / "README.txt").write_text("hello")
        assert load(tmp_path, RECIPE).excluded == {"not in a class folder": 1}

    def test_deeper_folders_and_links_are_followed_once(self, tmp_path: Path) -> None:
        classes(tmp_path / "data")
        fill(tmp_path / "data" / "cat" / "more" / "still", 300, 3)
        fill(tmp_path / "elsewhere", 400, 2)
        (tmp_path / "data" / "dog" / "away").symlink_to(tmp_path / "elsewhere")
        fill(tmp_path / "data" / ".shared", 400, 2)
        (tmp_path / "data" / "dog" / "linked").symlink_to(tmp_path / "data" / ".shared")
        (tmp_path / "data" / "dog" / "loop").symlink_to(tmp_path / "data" / "dog")
        (tmp_path / "data" / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
        data = load(tmp_path / "data", RECIPE)
        assert len(data) == 12 + 3 + 2
        assert data.excluded == {
            "broken link": 1,
            "link that leaves the folder": 1,
            "link to a folder that is read already": 1,
        }

    def test_an_empty_class_is_named(self, tmp_path: Path) -> None:
        (classes(tmp_path) / "emu").mkdir()
        with pytest.raises(DatasetError, match=r"class 'emu' has no files; add some, or remove"):
            load(tmp_path, RECIPE)

    def test_a_class_with_broken_pictures_only_is_named(self, tmp_path: Path) -> None:
        (classes(tmp_path) / "emu").mkdir()
        (tmp_path / "emu" / "1.png").write_bytes(b"not a picture")
        with pytest.raises(DatasetError, match=r"nothing of the class 'emu' could be used: .*emu/1\.png"):
            load(tmp_path, RECIPE)

    def test_a_folder_without_classes_is_refused_unless_labels_are_not_needed(self, tmp_path: Path) -> None:
        fill(tmp_path, 0, 12)
        with pytest.raises(DatasetError, match="one for each class; found none"):
            load(tmp_path, RECIPE)
        data = load(tmp_path, RECIPE, labelled=False)
        assert data.labels == () and len(data) == 12 and all(item.label is None for item in data.items)

    def test_nothing_there_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="there is nothing"):
            load(tmp_path / "missing", RECIPE)
        (tmp_path / "data.xlsx").write_bytes(b"")
        with pytest.raises(DatasetError, match="this file is none of them"):
            load(tmp_path / "data.xlsx", RECIPE)


class TestBrokenItems:
    def test_each_is_counted_by_its_reason_and_the_first_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        classes(tmp_path)
        (tmp_path / "cat" / "text.jpg").write_text("I am a text")
        (tmp_path / "cat" / "cut.png").write_bytes(png(77, side=64)[:400])
        (tmp_path / "cat" / "empty.png").write_bytes(b"")
        (tmp_path / "dog" / "wide.png").write_bytes(_giant_header())
        (tmp_path / "dog" / "heavy.png").write_bytes(png(78, side=64))
        monkeypatch.setattr(reading, "MAX_ITEM_BYTES", 5_000)
        stream = io.StringIO()
        data = load(tmp_path, RECIPE, progress=Bars(Console(file=stream)))
        assert data.excluded == {
            reading.UNDECODABLE: 2,
            reading.EMPTY: 1,
            reading.TOO_MANY_PIXELS: 1,
            reading.TOO_LARGE: 1,
        }
        assert len(data) == 12
        assert "left out, empty file: 1" in stream.getvalue() and "cat/empty.png" in stream.getvalue()

    def test_a_file_that_may_not_be_read_is_counted(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        classes(tmp_path)
        opened = Path.open

        def refuse(self: Path, *args: object, **kwargs: object) -> object:
            if self.name == "3.png":
                raise PermissionError(13, "Permission denied")
            return opened(self, *args, **kwargs)  # type: ignore[call-overload]  # as it came

        monkeypatch.setattr(Path, "open", refuse)
        assert load(tmp_path, RECIPE).excluded == {reading.UNREADABLE: 1}

    def test_equal_items_count_once(self, tmp_path: Path) -> None:
        classes(tmp_path)
        (tmp_path / "cat" / "copy.png").write_bytes(png(0))
        data = load(tmp_path, RECIPE)
        assert len(data) == 12 and data.excluded == {"duplicate": 1}

    def test_equal_items_in_two_parts_stay_in_the_held_out_one(self, tmp_path: Path) -> None:
        for start, part in enumerate(["train", "test"]):
            classes(tmp_path / part, start=100 * start)
        (tmp_path / "train" / "cat" / "leak.png").write_bytes(png(100))
        data = load(tmp_path, RECIPE)
        assert data.excluded == {"duplicate in another part": 1}
        assert Digest.of(png(100)) in {item.digest for item in data.split(TEST)}

    def test_equal_items_with_other_labels_are_all_left_out(self, tmp_path: Path) -> None:
        classes(tmp_path)
        (tmp_path / "dog" / "copy.png").write_bytes(png(0))
        data = load(tmp_path, RECIPE)
        assert data.excluded == {"contradicting labels": 2}
        assert Digest.of(png(0)) not in {item.digest for item in data.items}
        assert any("copy.png (dog)" in note for note in data.notes)

    def test_a_file_that_changes_later_is_noticed(self, tmp_path: Path) -> None:
        data = load(classes(tmp_path), RECIPE)
        content = data.items[0].content
        assert isinstance(content, Path)
        content.write_bytes(png(5000))
        with pytest.raises(DatasetError, match="changed after it was listed"):
            data.items[0].read()
        content.unlink()
        with pytest.raises(DatasetError, match="expected the file that was listed"):
            data.items[0].read()


def _giant_header() -> bytes:
    data = bytearray(png(1))
    data[16:24] = (30_000).to_bytes(4) * 2
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4)
    return bytes(data)


@pytest.mark.parametrize("form", WRITERS)
class TestTables:
    def test_a_table_is_read(self, tmp_path: Path, form: str) -> None:
        data = load(WRITERS[form](tmp_path / f"data.{form}", table_rows(tmp_path)), RECIPE)
        assert data.labels == ("a", "b") and len(data) == 12
        assert data.items[0].origin.startswith(f"data.{form}, ")

    def test_numbers_are_labels_in_the_order_of_their_value(self, tmp_path: Path, form: str) -> None:
        rows = [row | {"label": int(str(row["other"])) % 3 * 5} for row in table_rows(tmp_path)]
        assert load(WRITERS[form](tmp_path / f"data.{form}", rows), RECIPE).labels == ("0", "5", "10")

    @pytest.mark.parametrize("column", ["image", "label"])
    def test_a_missing_column_is_named_with_those_that_are_there(
        self, tmp_path: Path, form: str, column: str
    ) -> None:
        rows = [
            {name: value for name, value in row.items() if name != column} for row in table_rows(tmp_path)
        ]
        with pytest.raises(DatasetError, match=rf"'{column}' is missing; found .*'other'"):
            load(WRITERS[form](tmp_path / f"data.{form}", rows), RECIPE)

    @pytest.mark.parametrize("label", ["", " ", "\u200b"])
    def test_a_row_without_label_is_named(self, tmp_path: Path, form: str, label: str) -> None:
        rows = table_rows(tmp_path)
        rows[7]["label"] = label
        with pytest.raises(DatasetError, match=r"(line 9|line 8|row 8): expected a label, got an empty"):
            load(WRITERS[form](tmp_path / f"data.{form}", rows), RECIPE)

    def test_a_path_to_nothing_is_named(self, tmp_path: Path, form: str) -> None:
        rows = table_rows(tmp_path)
        rows[3]["image"] = "pictures/none.png"
        with pytest.raises(DatasetError, match=r"(line 5|line 4|row 4): there is no file .*none\.png"):
            load(WRITERS[form](tmp_path / f"data.{form}", rows), RECIPE)

    @pytest.mark.parametrize("image", ["", "pictures", "x" * 5000])
    def test_a_path_that_is_no_file_is_refused(self, tmp_path: Path, form: str, image: str) -> None:
        rows = table_rows(tmp_path)
        rows[0]["image"] = image
        with pytest.raises(DatasetError, match=r"(line 2|line 1|row 1): "):
            load(WRITERS[form](tmp_path / f"data.{form}", rows), RECIPE)

    def test_labels_are_not_looked_for_where_they_are_not_needed(self, tmp_path: Path, form: str) -> None:
        rows: list[dict[str, object]] = [{"image": row["image"]} for row in table_rows(tmp_path)]
        assert load(WRITERS[form](tmp_path / f"data.{form}", rows), RECIPE, labelled=False).labels == ()

    def test_groups_stay_together(self, tmp_path: Path, form: str) -> None:
        rows = [row | {"group": f"g{int(str(row['other'])) // 4}"} for row in table_rows(tmp_path, 60)]
        data = load(WRITERS[form](tmp_path / f"data.{form}", rows), RECIPE)
        parts: dict[str | None, set[str]] = {}
        for part in data.parts:
            for item in data.split(part):
                parts.setdefault(item.group, set()).add(part)
        assert len(parts) == 15 and all(len(their) == 1 for their in parts.values())
        assert {part for their in parts.values() for part in their} == {TRAIN, TEST}


class TestTableText:
    def test_a_byte_order_mark_is_no_part_of_the_first_column(self, tmp_path: Path) -> None:
        file = write_csv(tmp_path / "data.csv", table_rows(tmp_path))
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
        assert len(load(file, RECIPE)) == 12

    @pytest.mark.parametrize("form", ["csv", "jsonl"])
    def test_mixed_encodings_are_named_by_their_line(self, tmp_path: Path, form: str) -> None:
        rows = table_rows(tmp_path)
        rows[1]["label"] = "gr\u00fcn"
        file = tmp_path / f"data.{form}"
        lines = WRITERS[form](file, rows).read_bytes().split(b"\n")
        lines[4] = (
            lines[4].replace(b'"a"', b'"gr\xfcn"').replace(b",a,", b",gr\xfcn,").replace(b",b,", b",gr\xfcn,")
        )
        file.write_bytes(b"\n".join(lines))
        with pytest.raises(DatasetError, match=r"line 5: expected UTF-8, found the byte 0xfc"):
            load(file, RECIPE)

    def test_utf_16_is_named(self, tmp_path: Path) -> None:
        file = write_csv(tmp_path / "data.csv", table_rows(tmp_path))
        file.write_bytes(file.read_text().encode("utf-16"))
        with pytest.raises(DatasetError, match="this is UTF-16"):
            load(file, RECIPE)

    def test_a_row_of_another_length_is_named(self, tmp_path: Path) -> None:
        file = write_csv(tmp_path / "data.csv", table_rows(tmp_path))
        file.write_text(file.read_text() + "pictures/1.png,a\n")
        with pytest.raises(DatasetError, match=r"line 14: expected 3 values, as in the header, got 2"):
            load(file, RECIPE)

    def test_a_quote_that_never_ends_is_an_error(self, tmp_path: Path) -> None:
        file = write_csv(tmp_path / "data.csv", table_rows(tmp_path))
        file.write_text(file.read_text() + '"pictures/1.png,a,1\n')
        with pytest.raises(DatasetError, match="not csv"):
            load(file, RECIPE)

    def test_a_column_that_stands_twice_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "data.csv").write_text("image,label,label\n")
        with pytest.raises(DatasetError, match="expected one column 'label', found 2"):
            load(tmp_path / "data.csv", RECIPE)

    @pytest.mark.parametrize("line", ["{", "[1]", "[" * 100_000, '"text"'])
    def test_a_line_that_is_no_object_is_named(self, tmp_path: Path, line: str) -> None:
        file = write_jsonl(tmp_path / "data.jsonl", table_rows(tmp_path))
        file.write_text(file.read_text() + "\n\n" + line)
        with pytest.raises(DatasetError, match=r"line 14: expected a JSON object"):
            load(file, RECIPE)

    def test_a_number_that_is_none_is_no_label(self, tmp_path: Path) -> None:
        rows = table_rows(tmp_path)
        rows[2]["label"] = math.nan
        with pytest.raises(DatasetError, match=r"line 3: expected a label, got nan"):
            load(write_jsonl(tmp_path / "data.jsonl", rows), RECIPE)

    def test_a_column_of_numbers_with_gaps_is_named_by_its_row(self, tmp_path: Path) -> None:
        rows = [row | {"label": float(int(str(row["other"])) % 2)} for row in table_rows(tmp_path)]
        assert load(write_parquet(tmp_path / "whole.parquet", rows), RECIPE).labels == ("0", "1")
        rows[4]["label"] = None
        with pytest.raises(DatasetError, match=r"row 5: expected a label, got no label"):
            load(write_parquet(tmp_path / "gaps.parquet", rows), RECIPE)

    def test_a_file_of_another_kind_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "data.parquet").write_bytes(b"PAR1 no, not really")
        with pytest.raises(DatasetError, match="expected a parquet file"):
            load(tmp_path / "data.parquet", RECIPE)

    @pytest.mark.parametrize("text", ["", "image,label\n"])
    def test_an_empty_table_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "data.csv").write_text(text)
        with pytest.raises(DatasetError, match=r"is missing|found none"):
            load(tmp_path / "data.csv", RECIPE)


class TestDigests:
    def test_names_of_files_do_not_change_a_dataset(self, tmp_path: Path) -> None:
        first = load(classes(tmp_path / "a"), RECIPE)
        for name in ("cat", "dog"):
            (tmp_path / "b" / name).mkdir(parents=True)
            for number, file in enumerate(sorted((tmp_path / "a" / name).iterdir(), reverse=True)):
                (tmp_path / "b" / name / f"renamed-{number}.png").write_bytes(file.read_bytes())
        second = load(tmp_path / "b", RECIPE)
        assert first.digest == second.digest and first.split_digests() == second.split_digests()
        assert np.array_equal(first.pixels, second.pixels)

    def test_a_label_changes_it(self, tmp_path: Path) -> None:
        first = load(classes(tmp_path), RECIPE)
        (tmp_path / "cat" / "0.png").rename(tmp_path / "dog" / "0.png")
        assert load(tmp_path, RECIPE).digest != first.digest

    def test_rows_over_the_limit_are_kept_in_a_file_and_are_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = load(classes(tmp_path), RECIPE)
        monkeypatch.setattr(reading, "MEMORY_BYTES", 100)
        second = load(tmp_path, RECIPE)
        assert isinstance(second.pixels, np.memmap) and np.array_equal(first.pixels, second.pixels)


class TestLabels:
    def test_numbers_are_ordered_by_value(self) -> None:
        assert ordered(["10", "2", "1"]) == ("1", "2", "10")
        assert ordered(["-1", "0.5", "10", "9"]) == ("-1", "0.5", "9", "10")

    def test_numbers_inside_a_text_count(self) -> None:
        assert ordered(["room 10", "room 2", "Room 1"]) == ("Room 1", "room 2", "room 10")
        assert ordered(["b", "a", "10"]) == ("10", "a", "b")

    @given(st.lists(st.text(min_size=1, max_size=6), min_size=1))
    def test_the_order_does_not_depend_on_what_came_first(self, labels: list[str]) -> None:
        assert ordered(labels) == ordered(reversed(labels))
        assert set(ordered(labels)) == set(labels)

    def test_one_label_in_two_unicode_forms_is_one(self) -> None:
        assert clean("Gru\u0308n ") == clean("Gr\u00fcn") == "Gr\u00fcn"

    @pytest.mark.parametrize(
        "value",
        [
            None,
            "",
            "  ",
            "\u200d",
            math.nan,
            math.inf,
            [1],
            b"x",
            "a\nb",
            "a\u2028b",
            "\ud800",
            "\u202eab",
            "x" * 300,
        ],
    )
    def test_what_is_no_label_is_refused(self, value: object) -> None:
        with pytest.raises(ValueError):
            clean(value)

    def test_values_become_texts(self) -> None:
        assert [clean(value) for value in (3, 3.0, 3.5, True, " x ")] == ["3", "3", "3.5", "true", "x"]


class TestExamples:
    def test_digits_are_the_same_bytes_everywhere(self) -> None:
        data = load("example:digits", ImageRecipe(8, 8, colour="L"))
        assert len(data) == 1797 and data.labels == tuple("0123456789") and not data.excluded
        assert data.digest == "sha256:c0763288518468f67e3455acb747f0a5cc85d9a20c64b686ce162302b4641560"
        assert set(data.parts) == {TRAIN, VALIDATION, TEST}

    def test_digits_are_pictures_of_the_ink(self) -> None:
        from sklearn.datasets import load_digits

        data = load("example:digits", ImageRecipe(8, 8, colour="L"))
        numbers = [int(item.origin.rpartition(" ")[2]) - 1 for item in data.items]
        ink = load_digits().images[numbers]
        assert np.array_equal(data.pixels[..., 0], np.round(255 - ink * 255 / 16).astype(np.uint8))

    def test_an_unknown_example_lists_those_there_are(self) -> None:
        with pytest.raises(DatasetError, match="one of example:digits, got example:cats"):
            load("example:cats", RECIPE)


class TestDataset:
    def test_parts_that_share_items_are_refused(self, tmp_path: Path) -> None:
        data = load(classes(tmp_path), RECIPE)
        with pytest.raises(InvalidValue, match="share no item"):
            data.divided({TRAIN: np.arange(4), TEST: np.arange(3, 5)})

    def test_an_item_of_another_label_has_no_number(self, tmp_path: Path) -> None:
        data = load(classes(tmp_path), RECIPE)
        with pytest.raises(InvalidValue, match="expected items labelled with one of"):
            data.targets(np.arange(12), ("cat", "emu"))

    def test_the_index_of_an_absent_part_is_empty(self, tmp_path: Path) -> None:
        data = load(classes(tmp_path), RECIPE)
        assert data.index(VALIDATION).tolist() == [] and data.split(VALIDATION) == ()
