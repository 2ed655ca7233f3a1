"""Rare labels are dropped where that is asked for, and counted."""

from pathlib import Path

import pytest

from adapters.datasets import TEST, load
from registry.errors import DatasetError
from registry.recipe import ImageRecipe
from tests.adapters.test_datasets_texts import RECIPE, Row, rows, sentence, table, tagged
from tests.adapters.written import WRITERS, classes, fill, write_csv

PICTURES = ImageRecipe(8, 8)


def rare_tags() -> list[Row]:
    given = tagged()
    given[5]["labels"] = ["red", "odd"]
    given[6]["labels"] = ["odd"]
    given[7]["labels"] = ["rare"]
    return given


@pytest.mark.parametrize("form", WRITERS)
class TestTags:
    def test_an_item_keeps_its_other_tags(self, tmp_path: Path, form: str) -> None:
        data = load(table(tmp_path, form, rare_tags()), RECIPE, min_count=3)
        assert data.labels == ("red", "round") and len(data) == 24 and not data.excluded
        labels = {item.read(): item.label for item in data.items}
        assert [labels[sentence(n)] for n in (5, 6, 7)] == [("red",), (), ()]
        assert data.remarks == {"labels dropped, fewer than 3 examples": 2}
        assert any("'odd' has 2, 'rare' has 1" in note for note in data.notes)

    def test_without_a_least_count_all_are_kept(self, tmp_path: Path, form: str) -> None:
        given = rare_tags()
        given[7]["labels"] = ["odd"]
        data = load(table(tmp_path, form, given), RECIPE)
        assert data.labels == ("odd", "red", "round") and not data.remarks

    def test_a_count_that_is_reached_is_enough(self, tmp_path: Path, form: str) -> None:
        data = load(table(tmp_path, form, rare_tags()), RECIPE, min_count=2)
        assert data.labels == ("odd", "red", "round")


class TestClasses:
    def test_items_of_a_rare_class_are_left_out(self, tmp_path: Path) -> None:
        fill(classes(tmp_path) / "emu", 9000, 2)
        data = load(tmp_path, PICTURES, min_count=3)
        assert data.labels == ("cat", "dog") and len(data) == 12
        assert data.excluded == {"label with too few examples, fewer than 3": 2}
        assert data.remarks == {"labels dropped, fewer than 3 examples": 1}

    def test_a_class_of_one_is_dropped_and_no_error(self, tmp_path: Path) -> None:
        fill(classes(tmp_path) / "emu", 9000, 1)
        with pytest.raises(DatasetError, match="class 'emu' has one item"):
            load(tmp_path, PICTURES)
        assert load(tmp_path, PICTURES, min_count=2).labels == ("cat", "dog")

    def test_equal_items_count_once(self, tmp_path: Path) -> None:
        given = rows(20) + [rows(1, 40)[0] | {"label": "c"}] * 5
        data = load(write_csv(tmp_path / "data.csv", given), RECIPE, min_count=2)
        assert data.labels == ("a", "b") and data.excluded["duplicate"] == 4

    def test_test_data_do_not_count_and_lose_the_label_too(self, tmp_path: Path) -> None:
        fill(classes(tmp_path / "data") / "emu", 9000, 2)
        fill(classes(tmp_path / "test", start=300) / "emu", 9500, 6)
        data = load(tmp_path / "data", PICTURES, test=tmp_path / "test", min_count=3)
        assert data.labels == ("cat", "dog") and len(data.split(TEST)) == 12
        assert data.excluded == {"label with too few examples, fewer than 3": 8}

    def test_no_label_left_is_an_error_that_names_the_best(self, tmp_path: Path) -> None:
        with pytest.raises(
            DatasetError, match=r"at least 7 examples have; the most frequent one, 'cat', has 6; lower"
        ):
            load(classes(tmp_path), PICTURES, min_count=7)

    def test_unlabelled_data_have_none_to_drop(self, tmp_path: Path) -> None:
        assert len(load(classes(tmp_path), PICTURES, labelled=False, min_count=0)) == 12
