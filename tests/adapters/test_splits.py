"""Which items are learnt from, and which are held out."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.datasets import TEST, TRAIN, VALIDATION, Item, load
from adapters.datasets.splits import TEST_SHARE, _fraction, _unit, divide
from registry.digests import Digest
from registry.errors import DatasetError
from tests.adapters.written import RECIPE, classes, fill, sides, table_rows, write_csv


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
        held = len(data.split(TEST))
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
        rows = [row | {"group": "one" if row["other"] == 3 else row["other"]} for row in table_rows(tmp_path)]
        held: list[dict[str, object]] = [
            {"image": f"more/{seed}.png", "label": "a", "group": "one"} for seed in range(70, 73)
        ]
        fill(tmp_path / "more", 70, 3)
        train, test = write_csv(tmp_path / "a.csv", rows), write_csv(tmp_path / "b.csv", held)
        with pytest.raises(DatasetError, match=r"the group 'one'.*belongs to one"):
            load(train, RECIPE, test=test)

    def test_a_class_in_one_group_is_learnt_and_its_missing_test_is_said(self, tmp_path: Path) -> None:
        rows = [
            row | {"group": "only" if row["label"] == "a" else row["other"]}
            for row in table_rows(tmp_path, 40)
        ]
        data = load(write_csv(tmp_path / "data.csv", rows), RECIPE)
        assert "a" in {item.label for item in data.split(TRAIN)}
        assert any("not tested" in note and "a" in note for note in data.notes)

    def test_data_without_labels_are_divided_alike(self, tmp_path: Path) -> None:
        labelled, bare = (load(classes(tmp_path, count=30), RECIPE, labelled=each) for each in (True, False))
        assert sides(labelled) == sides(bare)
