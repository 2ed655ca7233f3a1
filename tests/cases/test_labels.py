"""Labels as people write them: every orthography, words that other programs take for nothing, numbers."""

import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest

from adapters.datasets import load
from adapters.datasets.labels import check_alike, clean, plain_numbers
from registry.errors import DatasetError
from registry.manifest import Head, Wire
from registry.recipe import ImageRecipe
from tests.adapters.test_datasets_texts import RECIPE, Row, rows, table, tagged
from tests.adapters.written import WRITERS, classes, write_jsonl, write_parquet

INPUTS = Path(__file__).parent / "inputs"
PICTURES = ImageRecipe(8, 8)
PERSIAN = ("می\u200cخواهم", "کتاب\u200cها")
FAMILY = "👨\u200d👩\u200d👧"


def labelled(labels: Sequence[object], count: int = 24) -> list[Row]:
    return [row | {"label": labels[at % len(labels)]} for at, row in enumerate(rows(count))]


class TestOrthography:
    @pytest.mark.parametrize(
        "names",
        [
            PERSIAN,
            (FAMILY, "🐶"),
            ("क्\u200dष", "क्ष्म"),  # an Indic half form
            ("New\u00a0York", "Paris"),
            ("東\u3000京", "大阪"),
            ("❤\ufe0f", "☀\ufe0f"),
            ("שלום\u200f", "עולם"),
            ("co\u00adoperate", "x"),
        ],
    )
    def test_what_orthography_needs_is_kept(self, tmp_path: Path, names: tuple[str, str]) -> None:
        assert set(load(classes(tmp_path / "folder", names), PICTURES).labels) == set(names)
        for form in WRITERS:
            assert set(load(table(tmp_path, form, labelled(names)), RECIPE).labels) == set(names)

    @pytest.mark.parametrize("names", [*PERSIAN, FAMILY, "a\u00a0b"])
    def test_a_stored_version_keeps_them(self, names: str) -> None:
        head = Head("words", "classification", Wire("head", "logits"), (names, "other"))
        assert Head.from_json(head.to_json()) == head

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            ("New York", "New\u00a0York"),
            ("東 京", "東\u3000京"),
            ("کتابها", "کتاب\u200cها"),
            ("❤", "❤\ufe0f"),
            ("a b", "a  b"),
            ("cat", "c\u200bat"),
            ("cat", "cat\u200e"),
        ],
    )
    def test_labels_that_look_alike_are_never_two_in_silence(
        self, tmp_path: Path, first: str, second: str
    ) -> None:
        with pytest.raises(DatasetError, match=r"the labels '.*' and '.*' look alike and differ in spaces"):
            load(classes(tmp_path, (first, second)), PICTURES)
        with pytest.raises(DatasetError, match="look alike"):
            load(table(tmp_path, "jsonl", labelled((first, second))), RECIPE)

    def test_two_compositions_are_one_label(self, tmp_path: Path) -> None:
        names = [unicodedata.normalize(form, "crème") for form in ("NFC", "NFD")]
        assert load(classes(tmp_path, (*names, "tarte")), PICTURES).labels == ("crème", "tarte")

    def test_labels_that_differ_to_the_eye_are_let_be(self) -> None:
        check_alike(["Cat", "cat", "cats", "１", "1", "x²", "x2", "ß", "ss", "α", "a"])

    @pytest.mark.parametrize(
        "label", ["a\tb", "a\nb", "\x1b[31mred", "a\u2029b", "\u202ecat", "\x7f", "a\x00"]
    )
    def test_what_would_spoil_a_line_is_refused(self, label: str) -> None:
        with pytest.raises(ValueError, match="a label that holds the control character U\\+"):
            clean(label)


class TestWordsForNothing:
    @pytest.mark.parametrize("name", ["nan", "NaN", "null", "None", "NA", "n,a"])
    def test_they_are_labels_as_names_of_folders(self, tmp_path: Path, name: str) -> None:
        data = load(classes(tmp_path, ("naan", name)), PICTURES)
        assert set(data.labels) == {"naan", name} and not data.remarks

    @pytest.mark.parametrize("name", ["nan", "NaN", "null", "None", "NA"])
    @pytest.mark.parametrize("form", WRITERS)
    def test_they_are_labels_as_text_and_said(self, tmp_path: Path, form: str, name: str) -> None:
        data = load(table(tmp_path, form, labelled(("naan", name))), RECIPE)
        assert set(data.labels) == {"naan", name}
        assert data.remarks == {f"the text {name!r} is read as a label": 12}

    @pytest.mark.parametrize(
        ("write", "value"), [(write_jsonl, math.nan), (write_jsonl, None), (write_parquet, None)]
    )
    def test_what_is_truly_missing_is_an_error(self, tmp_path: Path, write: object, value: object) -> None:
        given = labelled(("a", "b"))
        given[7]["label"] = value
        assert callable(write)
        form = "jsonl" if write is write_jsonl else "parquet"
        with pytest.raises(DatasetError, match=r"(line|row) 8: expected a label, got (nan|no label)"):
            load(write(tmp_path / f"data.{form}", given), RECIPE)

    def test_nan_is_no_group(self, tmp_path: Path) -> None:
        given = [row | {"group": "nan"} for row in rows()]
        with pytest.raises(DatasetError, match="'group' is a text or a number; got NaN; leave it empty"):
            load(table(tmp_path, "csv", given), RECIPE)


class TestNumbers:
    def test_a_column_of_decimal_whole_numbers_is_read_as_such_and_said(self) -> None:
        data = load(INPUTS / "csv-float-labels.csv", RECIPE)
        assert data.labels == ("0", "1")
        ((remark, count),) = data.remarks.items()
        assert remark == "labels like '0.0' are read as whole numbers, '0'" and count == len(data)

    @pytest.mark.parametrize("values", [(0.0, 1.0), (0, 1), (1.0, 1.5, 2.0), (-1.0, 0.0), (10.0, 9.0)])
    def test_every_form_gives_the_same_labels(self, tmp_path: Path, values: Sequence[float]) -> None:
        found = {load(table(tmp_path, form, labelled(values)), RECIPE).labels for form in WRITERS}
        texts = load(table(tmp_path, "jsonl", labelled([str(value) for value in values]), "texts"), RECIPE)
        assert found == {texts.labels}

    @pytest.mark.parametrize(
        "labels", [("1.0", "1.10"), ("1.0", "x"), ("007", "1.0"), ("1.0", "1e3"), ("1.00", "2.0")]
    )
    def test_nothing_is_changed_where_that_could_lose_anything(
        self, tmp_path: Path, labels: tuple[str, str]
    ) -> None:
        data = load(table(tmp_path, "csv", labelled(labels)), RECIPE)
        assert set(data.labels) == set(labels) and not data.remarks

    def test_several_labels_of_an_item_follow_the_same_rule(self, tmp_path: Path) -> None:
        names = {"red": "1.0", "round": "2.0"}
        given = [row | {"labels": [names[label] for label in row["labels"]]} for row in tagged()]
        assert load(table(tmp_path, "csv", given), RECIPE).labels == ("1", "2")

    def test_numbers_of_any_length_are_safe(self) -> None:
        assert plain_numbers(["1" * 400 + ".0", "2.0"]) == {}
        assert plain_numbers(["-0.0", "1.0"]) == {"-0.0": "0", "1.0": "1"}
        assert plain_numbers([]) == {} == plain_numbers(["1", "2"])
