"""Data in every form that is read, and in every state that real data are in."""

import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet
from rich.console import Console

from adapters.datasets import TEST, TRAIN, VALIDATION, Dataset, Item, load, reading
from adapters.datasets.division import TEST_SHARE, _fraction, _unit, divide
from adapters.datasets.labels import clean, ordered
from registry.digests import Digest
from registry.errors import DatasetError, InvalidValue
from registry.progress import Bars
from registry.recipe import ImageRecipe

RECIPE = ImageRecipe(8, 8)


def png(seed: int, side: int = 8) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def fill(folder: Path, start: int, count: int = 6) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(start, start + count):
        (folder / f"{seed}.png").write_bytes(png(seed))
    return folder


def classes(folder: Path, names: Sequence[str] = ("cat", "dog"), count: int = 6, start: int = 0) -> Path:
    for number, name in enumerate(names):
        fill(folder / name, start + 1000 * number, count)
    return folder


def sides(dataset: Dataset) -> dict[str, str]:
    return {item.digest: part for part in dataset.parts for item in dataset.part(part)}


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
        assert all(Path(item.origin).parts[1] == "train" for item in data.part(TRAIN))

    def test_splits_without_class_folders_are_no_labels(self, tmp_path: Path) -> None:
        with pytest.raises(
            DatasetError, match="expected class folders inside 'test' and 'train', there are none"
        ):
            load(classes(tmp_path, ("train", "test")), RECIPE)
        assert {*load(tmp_path, RECIPE, labelled=False).parts} == {TRAIN, TEST}

    def test_a_test_part_of_its_own_is_held_out(self, tmp_path: Path) -> None:
        data = load(classes(tmp_path / "a"), RECIPE, test=classes(tmp_path / "b", start=50))
        assert len(data.part(TRAIN)) == 12 and len(data.part(TEST)) == 12
        assert all(item.origin.startswith("b/") for item in data.part(TEST))

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
        assert Digest.of(png(100)) in {item.digest for item in data.part(TEST)}

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


def _rows(folder: Path, count: int = 12) -> list[dict[str, object]]:
    fill(folder / "pictures", 0, count)
    return [
        {"image": f"pictures/{seed}.png", "label": "ab"[seed % 2], "other": seed} for seed in range(count)
    ]


def write_csv(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    lines = [",".join(rows[0])] + [",".join(str(value) for value in row.values()) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_jsonl(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def write_parquet(path: Path, rows: Sequence[dict[str, object]]) -> Path:
    parquet.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


WRITERS: dict[str, Callable[[Path, Sequence[dict[str, object]]], Path]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}


@pytest.mark.parametrize("form", WRITERS)
class TestTables:
    def test_a_table_is_read(self, tmp_path: Path, form: str) -> None:
        data = load(WRITERS[form](tmp_path / f"data.{form}", _rows(tmp_path)), RECIPE)
        assert data.labels == ("a", "b") and len(data) == 12
        assert data.items[0].origin.startswith(f"data.{form}, ")

    def test_numbers_are_labels_in_the_order_of_their_value(self, tmp_path: Path, form: str) -> None:
        rows = [row | {"label": int(str(row["other"])) % 3 * 5} for row in _rows(tmp_path)]
        assert load(WRITERS[form](tmp_path / f"data.{form}", rows), RECIPE).labels == ("0", "5", "10")

    @pytest.mark.parametrize("column", ["image", "label"])
    def test_a_missing_column_is_named_with_those_that_are_there(
        self, tmp_path: Path, form: str, column: str
    ) -> None:
        rows = [{name: value for name, value in row.items() if name != column} for row in _rows(tmp_path)]
        with pytest.raises(DatasetError, match=rf"'{column}' is missing; found .*'other'"):
            load(WRITERS[form](tmp_path / f"data.{form}", rows), RECIPE)

    @pytest.mark.parametrize("label", ["", " ", "\u200b"])
    def test_a_row_without_label_is_named(self, tmp_path: Path, form: str, label: str) -> None:
        rows = _rows(tmp_path)
        rows[7]["label"] = label
        with pytest.raises(DatasetError, match=r"(line 9|line 8|row 8): expected a label, got an empty"):
            load(WRITERS[form](tmp_path / f"data.{form}", rows), RECIPE)

    def test_a_path_to_nothing_is_named(self, tmp_path: Path, form: str) -> None:
        rows = _rows(tmp_path)
        rows[3]["image"] = "pictures/none.png"
        with pytest.raises(DatasetError, match=r"(line 5|line 4|row 4): there is no file .*none\.png"):
            load(WRITERS[form](tmp_path / f"data.{form}", rows), RECIPE)

    @pytest.mark.parametrize("image", ["", "pictures", "x" * 5000])
    def test_a_path_that_is_no_file_is_refused(self, tmp_path: Path, form: str, image: str) -> None:
        rows = _rows(tmp_path)
        rows[0]["image"] = image
        with pytest.raises(DatasetError, match=r"(line 2|line 1|row 1): "):
            load(WRITERS[form](tmp_path / f"data.{form}", rows), RECIPE)

    def test_labels_are_not_looked_for_where_they_are_not_needed(self, tmp_path: Path, form: str) -> None:
        rows: list[dict[str, object]] = [{"image": row["image"]} for row in _rows(tmp_path)]
        assert load(WRITERS[form](tmp_path / f"data.{form}", rows), RECIPE, labelled=False).labels == ()

    def test_groups_stay_together(self, tmp_path: Path, form: str) -> None:
        rows = [row | {"group": f"g{int(str(row['other'])) // 4}"} for row in _rows(tmp_path, 60)]
        data = load(WRITERS[form](tmp_path / f"data.{form}", rows), RECIPE)
        parts: dict[str | None, set[str]] = {}
        for part in data.parts:
            for item in data.part(part):
                parts.setdefault(item.group, set()).add(part)
        assert len(parts) == 15 and all(len(their) == 1 for their in parts.values())
        assert {part for their in parts.values() for part in their} == {TRAIN, TEST}


class TestTableText:
    def test_a_byte_order_mark_is_no_part_of_the_first_column(self, tmp_path: Path) -> None:
        file = write_csv(tmp_path / "data.csv", _rows(tmp_path))
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
        assert len(load(file, RECIPE)) == 12

    @pytest.mark.parametrize("form", ["csv", "jsonl"])
    def test_mixed_encodings_are_named_by_their_line(self, tmp_path: Path, form: str) -> None:
        rows = _rows(tmp_path)
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
        file = write_csv(tmp_path / "data.csv", _rows(tmp_path))
        file.write_bytes(file.read_text().encode("utf-16"))
        with pytest.raises(DatasetError, match="this is UTF-16"):
            load(file, RECIPE)

    def test_a_row_of_another_length_is_named(self, tmp_path: Path) -> None:
        file = write_csv(tmp_path / "data.csv", _rows(tmp_path))
        file.write_text(file.read_text() + "pictures/1.png,a\n")
        with pytest.raises(DatasetError, match=r"line 14: expected 3 values, as in the header, got 2"):
            load(file, RECIPE)

    def test_a_quote_that_never_ends_is_an_error(self, tmp_path: Path) -> None:
        file = write_csv(tmp_path / "data.csv", _rows(tmp_path))
        file.write_text(file.read_text() + '"pictures/1.png,a,1\n')
        with pytest.raises(DatasetError, match="not csv"):
            load(file, RECIPE)

    def test_a_column_that_stands_twice_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "data.csv").write_text("image,label,label\n")
        with pytest.raises(DatasetError, match="expected one column 'label', found 2"):
            load(tmp_path / "data.csv", RECIPE)

    @pytest.mark.parametrize("line", ["{", "[1]", "[" * 100_000, '"text"'])
    def test_a_line_that_is_no_object_is_named(self, tmp_path: Path, line: str) -> None:
        file = write_jsonl(tmp_path / "data.jsonl", _rows(tmp_path))
        file.write_text(file.read_text() + "\n\n" + line)
        with pytest.raises(DatasetError, match=r"line 14: expected a JSON object"):
            load(file, RECIPE)

    def test_a_number_that_is_none_is_no_label(self, tmp_path: Path) -> None:
        rows = _rows(tmp_path)
        rows[2]["label"] = math.nan
        with pytest.raises(DatasetError, match=r"line 3: expected a label, got nan"):
            load(write_jsonl(tmp_path / "data.jsonl", rows), RECIPE)

    def test_a_column_of_numbers_with_gaps_is_named_by_its_row(self, tmp_path: Path) -> None:
        rows = [row | {"label": float(int(str(row["other"])) % 2)} for row in _rows(tmp_path)]
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


class TestDivision:
    def test_added_rows_never_change_sides(self, tmp_path: Path) -> None:
        few = load(classes(tmp_path, count=60), RECIPE)
        fill(tmp_path / "cat", 5000, 150)
        fill(tmp_path / "emu", 6000, 30)
        many = load(tmp_path, RECIPE)
        before, after = sides(few), sides(many)
        assert VALIDATION not in few.parts and VALIDATION in many.parts
        assert all((after[digest] == TEST) == (part == TEST) for digest, part in before.items())

    def test_a_fifth_is_held_out_and_some_of_the_rest_validates(self) -> None:
        items = _items({"a": 4000, "b": 1000})
        parts = {name: len(index) / 5000 for name, index in divide(items, [None] * 5000).items()}
        assert parts[TEST] == pytest.approx(0.2, abs=0.02)
        assert parts[VALIDATION] == pytest.approx(0.12, abs=0.02)

    @settings(max_examples=60, deadline=None)
    @given(
        st.dictionaries(st.sampled_from("abcdef"), st.integers(2, 12), min_size=1),
        st.integers(0, 10_000),
    )
    def test_every_class_is_learnt_and_something_is_held_out(self, counts: dict[str, int], seed: int) -> None:
        items = _items(counts, seed)
        parts = divide(items, [None] * len(items))
        assert {items[at].label for at in parts[TRAIN]} == set(counts)
        assert len(parts[TEST]) >= 1
        assert sorted(np.concatenate(list(parts.values()))) == list(range(len(items)))

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 10_000), st.integers(1, 40))
    def test_the_test_side_depends_on_the_item_alone(self, seed: int, more: int) -> None:
        items = _items({"a": 40, "b": 40}, seed)
        added = items + _items({"a": more, "c": more + 1}, seed + 20_000)
        before, after = (
            {each[at].digest for at in divide(each, [None] * len(each))[TEST]} for each in (items, added)
        )
        assert before == after & {item.digest for item in items}

    @settings(max_examples=300, deadline=None)
    @given(st.data(), st.booleans(), st.booleans())
    def test_added_rows_never_move_an_item_out_of_the_test_part(
        self, data: st.DataObject, several: bool, grouped: bool
    ) -> None:
        """However small the classes are, and whatever is added; a group gains no label that is new to the data."""
        some = st.lists(_item(several, grouped), min_size=4, max_size=25, unique_by=lambda item: item.digest)
        first = data.draw(some)
        known = {label for item in first for label in item.labels}
        groups = {item.group for item in first if item.group is not None}
        more = [
            item
            for item in data.draw(some)
            if item.digest not in {each.digest for each in first}
            and (item.group not in groups or set(item.labels) <= known)
        ]
        try:
            before, after = (_tested(items) for items in (first, first + more))
        except DatasetError:
            return
        lowest_alone = {_unit(item) for item in first if item.digest in before}
        if len(lowest_alone) == 1 and _fraction(TEST, *lowest_alone) >= TEST_SHARE:
            return  # nothing would have been held out
        assert before <= after

    @settings(max_examples=100, deadline=None)
    @given(st.dictionaries(st.sampled_from("abcdef"), st.integers(2, 60), min_size=1), st.integers(0, 10_000))
    def test_the_hash_of_an_item_decides_and_two_cases_alone_bend_it(
        self, counts: dict[str, int], seed: int
    ) -> None:
        items = _items(counts, seed)
        below = {item.digest for item in items if _fraction(TEST, item.digest) < TEST_SHARE}
        tested = _tested(items)
        by_label = {label: {item.digest for item in items if item.label == label} for label in counts}
        kept = {
            max(theirs, key=lambda one: _fraction(TEST, one))
            for theirs in by_label.values()
            if theirs <= below
        }
        lowest = min((item.digest for item in items), key=lambda one: _fraction(TEST, one))
        assert tested == (below - kept or {lowest})

    @pytest.mark.parametrize("count", [5, 10, 20, 50])
    def test_the_share_scatters_as_a_binomial_does(self, count: int) -> None:
        shares = [
            len(_tested(_items(dict.fromkeys("abcdefghij", count), seed))) / (10 * count)
            for seed in range(200)
        ]
        assert np.mean(shares) == pytest.approx(0.2, abs=0.02)
        assert np.std(shares) == pytest.approx(math.sqrt(0.16 / (10 * count)), rel=0.25)

    def test_what_was_held_out_is_said(self, tmp_path: Path) -> None:
        data = load(classes(tmp_path / "a", count=20), RECIPE)
        held = len(data.part(TEST))
        said = f"held out by a hash of the content: {held} of 40 items ({held / 40:.1%})"
        assert data.notes[0] == said
        given = load(tmp_path / "a", RECIPE, test=classes(tmp_path / "b", start=500))
        assert not any("by a hash" in note for note in given.notes)

    def test_one_item_cannot_be_learnt_and_tested(self, tmp_path: Path) -> None:
        fill(classes(tmp_path / "data") / "emu", 9000, 1)
        named = r"class 'emu' has one item .*emu/9000\.png.*separate test part"
        with pytest.raises(DatasetError, match=named):
            load(tmp_path / "data", RECIPE)
        data = load(tmp_path / "data", RECIPE, test=classes(tmp_path / "test", start=400))
        assert data.labels == ("cat", "dog", "emu")

    def test_a_label_in_the_test_part_only_is_named(self, tmp_path: Path) -> None:
        test = classes(tmp_path / "test", ("cat", "emu"), start=400)
        with pytest.raises(DatasetError, match=r"label 'emu' .* is in the test part only"):
            load(classes(tmp_path / "data"), RECIPE, test=test)

    def test_a_group_in_two_given_parts_is_refused(self, tmp_path: Path) -> None:
        rows = [row | {"group": "one" if row["other"] == 3 else row["other"]} for row in _rows(tmp_path)]
        held: list[dict[str, object]] = [
            {"image": f"more/{seed}.png", "label": "a", "group": "one"} for seed in range(70, 73)
        ]
        fill(tmp_path / "more", 70, 3)
        train, test = write_csv(tmp_path / "a.csv", rows), write_csv(tmp_path / "b.csv", held)
        with pytest.raises(DatasetError, match=r"the group 'one'.*belongs to one"):
            load(train, RECIPE, test=test)

    def test_a_class_in_one_group_is_learnt_and_its_missing_test_is_said(self, tmp_path: Path) -> None:
        rows = [
            row | {"group": "only" if row["label"] == "a" else row["other"]} for row in _rows(tmp_path, 40)
        ]
        data = load(write_csv(tmp_path / "data.csv", rows), RECIPE)
        assert "a" in {item.label for item in data.part(TRAIN)}
        assert any("not tested" in note and "a" in note for note in data.notes)

    def test_data_without_labels_are_divided_alike(self, tmp_path: Path) -> None:
        labelled, bare = (load(classes(tmp_path, count=30), RECIPE, labelled=each) for each in (True, False))
        assert sides(labelled) == sides(bare)


@st.composite
def _item(draw: st.DrawFn, several: bool, grouped: bool) -> Item:
    number = draw(st.integers(0, 2000))
    some = st.lists(st.sampled_from("abc"), max_size=3, unique=True)
    label = tuple(sorted(draw(some))) if several else draw(st.sampled_from("abc"))
    group = draw(st.none() | st.sampled_from(["g1", "g2", "g3", "g4", "g5"])) if grouped else None
    return Item(Digest.of(str(number).encode()), label, group, str(number), b"")


def _tested(items: Sequence[Item]) -> set[str]:
    """Return the digests of the items that are held out."""
    return {items[at].digest for at in divide(items, [None] * len(items)).get(TEST, ())}


def _items(counts: dict[str, int], seed: int = 0) -> list[Item]:
    return [
        Item(Digest.of(f"{seed} {label} {number}".encode()), label, None, f"{label}/{number}", b"")
        for label, count in counts.items()
        for number in range(count)
    ]


class TestDigests:
    def test_names_of_files_do_not_change_a_dataset(self, tmp_path: Path) -> None:
        first = load(classes(tmp_path / "a"), RECIPE)
        for name in ("cat", "dog"):
            (tmp_path / "b" / name).mkdir(parents=True)
            for number, file in enumerate(sorted((tmp_path / "a" / name).iterdir(), reverse=True)):
                (tmp_path / "b" / name / f"renamed-{number}.png").write_bytes(file.read_bytes())
        second = load(tmp_path / "b", RECIPE)
        assert first.digest == second.digest and first.part_digests() == second.part_digests()
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
        assert data.index(VALIDATION).tolist() == [] and data.part(VALIDATION) == ()
