"""Rows give batches: of one shape, of several lengths, and of what frozen stages left."""

import numpy as np
import pytest

from adapters.datasets.rows import CarriedRows, DenseRows, RaggedRows
from registry.errors import InvalidValue
from tests.builders import text_recipe

RECIPE = text_recipe()
TEXTS = ("good", "the day is good", "bad night", "a " * 20)
LENGTHS = [3, 6, 4, 22]
"""Tokens of each, ``[CLS]`` and ``[SEP]`` included."""


def ragged() -> RaggedRows:
    return RaggedRows.of(RECIPE, [RECIPE.prepare(text) for text in TEXTS])


class TestDenseRows:
    ROWS = DenseRows({"pixels": np.arange(12, dtype=np.uint8).reshape(6, 2)})

    def test_a_batch_is_some_rows_in_the_order_asked_for(self) -> None:
        assert self.ROWS.batch(np.array([4, 0]))["pixels"].tolist() == [[8, 9], [0, 1]]

    def test_all_rows_are_equally_long(self) -> None:
        assert len(self.ROWS) == 6
        assert self.ROWS.lengths(np.array([1, 3])).tolist() == [1, 1]

    def test_rows_that_are_taken_stand_alone(self) -> None:
        taken = self.ROWS.take(np.array([5, 2]))
        assert len(taken) == 2 and taken.batch(np.array([0]))["pixels"].tolist() == [[10, 11]]

    @pytest.mark.parametrize("arrays", [{}, {"a": np.zeros(2), "b": np.zeros(3)}])
    def test_fields_of_different_counts_are_refused(self, arrays: dict[str, np.ndarray]) -> None:
        with pytest.raises(InvalidValue, match="of as many rows each"):
            DenseRows(arrays)


class TestRaggedRows:
    def test_each_row_has_its_own_length(self) -> None:
        rows = ragged()
        assert len(rows) == 4
        assert rows.lengths(np.arange(4)).tolist() == LENGTHS
        assert rows.lengths(np.array([3, 0])).tolist() == [22, 3]

    @pytest.mark.parametrize("index", [[0], [1, 0], [2, 3, 1], [0, 0]])
    def test_a_batch_is_what_the_recipe_makes_of_these_texts(self, index: list[int]) -> None:
        got = ragged().batch(np.array(index))
        expected = RECIPE.collate([RECIPE.prepare(TEXTS[at]) for at in index])
        assert got.keys() == expected.keys()
        for name, values in expected.items():
            assert got[name].dtype == np.int64 and np.array_equal(got[name], values)

    def test_a_batch_is_as_long_as_its_longest_row_asks_for(self) -> None:
        rows = ragged()
        shapes = [rows.batch(np.array(index))["input_ids"].shape for index in ([0, 1], [0, 3])]
        assert shapes == [(2, 8), (2, 32)]

    def test_rows_that_are_taken_stand_alone(self) -> None:
        taken = ragged().take(np.array([3, 1]))
        assert taken.lengths(np.arange(2)).tolist() == [22, 6]
        assert taken.batch(np.array([1]))["input_ids"][0, :6].tolist() == (
            RECIPE.prepare(TEXTS[1])["input_ids"].tolist()
        )

    def test_no_rows_are_rows(self) -> None:
        rows = ragged().take(np.zeros(0, np.int64))
        assert len(rows) == 0 and rows.lengths(np.zeros(0, np.int64)).tolist() == []


class TestCarriedRows:
    def tokens(self) -> CarriedRows:
        carried = [np.full((length, 2), number, np.float32) for number, length in enumerate(LENGTHS)]
        return CarriedRows("h", carried, ragged(), ragged=True)

    def test_tokens_are_padded_as_their_text_is(self) -> None:
        fields = self.tokens().batch(np.array([2, 1]))
        assert fields["h"].shape == (2, 8, 2) and fields["attention_mask"].shape == (2, 8)
        assert np.array_equal(fields["h"][:, :, 0] != 0, fields["attention_mask"] != 0)
        assert fields["h"][0, 0, 0] == 2 and fields["h"][1, 5, 1] == 1

    def test_vectors_are_stacked_beside_the_fields(self) -> None:
        rows = CarriedRows("h", [np.full(3, each, np.float32) for each in range(4)], ragged(), ragged=False)
        fields = rows.batch(np.array([3, 0]))
        assert fields["h"].tolist() == [[3, 3, 3], [0, 0, 0]]
        assert fields.keys() == {"h", "input_ids", "attention_mask"}

    def test_lengths_and_count_are_those_of_what_went_in(self) -> None:
        rows = self.tokens()
        assert len(rows) == 4 and rows.lengths(np.arange(4)).tolist() == LENGTHS

    def test_rows_that_are_taken_stay_together(self) -> None:
        taken = self.tokens().take(np.array([3, 0]))
        fields = taken.batch(np.array([1, 0]))
        assert fields["h"][:, 0, 0].tolist() == [0, 3]
        assert fields["attention_mask"].sum(axis=1).tolist() == [3, 22]
