"""What every feature store keeps to."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import pytest

from registry.cache import FeatureKey, FeatureStore
from registry.digests import Digest
from registry.errors import InvalidValue

PLENTY = 1 << 24
KEY = FeatureKey((Digest.of(b"trunk"),), Digest.of(b"recipe"), "here")
OTHER = FeatureKey((Digest.of(b"trunk"),), Digest.of(b"recipe"), "there")
THIRD = FeatureKey((Digest.of(b"trunk"),), Digest.of(b"recipe"), "elsewhere")


def items(count: int, start: int = 0) -> list[Digest]:
    return [Digest.of(number.to_bytes(4, "big")) for number in range(start, start + count)]


def rows(count: int, *shape: int, start: int = 0) -> np.ndarray:
    """Return rows that differ, and are the same again for the same items."""
    firsts = np.arange(start, start + count, dtype=np.float32)
    return firsts.reshape(count, *(1 for _ in shape)) + np.zeros(shape, np.float32)


def has(store: FeatureStore, key: FeatureKey, wanted: Sequence[Digest]) -> list[bool]:
    mask: list[bool] = store.find(key, wanted).mask.tolist()
    return mask


class FeatureStoreContract(ABC):
    """Inherit, and say how an empty store is opened."""

    @abstractmethod
    def open(self, max_bytes: int) -> FeatureStore:
        """Open an empty store; several in one test are apart."""

    @pytest.fixture
    def store(self) -> FeatureStore:
        return self.open(PLENTY)

    def test_an_empty_store_has_nothing(self, store: FeatureStore) -> None:
        found = store.find(KEY, items(3))
        assert found.mask.tolist() == [False] * 3
        assert len(found.rows) == 0

    @pytest.mark.parametrize("shape", [(), (1,), (512,), (3, 5, 2)])
    def test_what_is_put_is_found(self, store: FeatureStore, shape: tuple[int, ...]) -> None:
        given_rows = np.random.default_rng(0).standard_normal((20, *shape)).astype(np.float32)
        store.put(KEY, items(20), given_rows)
        found = store.find(KEY, items(20))
        assert found.mask.all()
        assert found.mask.dtype == bool and found.rows.dtype == np.float32
        assert np.array_equal(found.rows, given_rows)

    def test_rows_come_in_the_order_of_the_items(self, store: FeatureStore) -> None:
        store.put(KEY, items(10), rows(10, 4))
        wanted = [7, 3, 3, 9, 0]
        found = store.find(KEY, [items(10)[at] for at in wanted])
        assert np.array_equal(found.rows, rows(10, 4)[wanted])

    def test_only_what_is_missing_is_left_to_compute(self, store: FeatureStore) -> None:
        store.put(KEY, items(5), rows(5, 4))
        store.put(KEY, items(5, start=10), rows(5, 4, start=10))
        found = store.find(KEY, items(20))
        assert found.mask.tolist() == [True] * 5 + [False] * 5 + [True] * 5 + [False] * 5
        assert np.array_equal(found.rows, np.concatenate([rows(5, 4), rows(5, 4, start=10)]))

    def test_a_tenth_more_rows_join_the_others(self, store: FeatureStore) -> None:
        store.put(KEY, items(1000), rows(1000, 8))
        missing = np.flatnonzero(~store.find(KEY, items(1100)).mask)
        assert missing.tolist() == list(range(1000, 1100))
        store.put(KEY, items(100, start=1000), rows(100, 8, start=1000))
        found = store.find(KEY, items(1100))
        assert found.mask.all() and np.array_equal(found.rows, rows(1100, 8))

    def test_an_item_keeps_the_row_that_it_has(self, store: FeatureStore) -> None:
        store.put(KEY, items(4), rows(4, 2))
        store.put(KEY, items(6), rows(6, 2) + 100)
        twice = items(1, start=9)
        store.put(KEY, twice + twice, rows(2, 2))
        assert np.array_equal(store.find(KEY, items(4)).rows, rows(4, 2))
        assert np.array_equal(store.find(KEY, items(2, start=4)).rows, rows(2, 2, start=4) + 100)
        assert store.find(KEY, twice).rows.tolist() == [[0, 0]]

    def test_nothing_may_be_put_and_asked_for(self, store: FeatureStore) -> None:
        store.put(KEY, [], rows(0, 4))
        assert len(store.find(KEY, []).mask) == 0
        store.put(KEY, items(1), rows(1, 4))
        assert len(store.find(KEY, []).rows) == 0

    @pytest.mark.parametrize(
        "other",
        [
            FeatureKey((), KEY.recipe, KEY.provider),
            FeatureKey(KEY.weights * 2, KEY.recipe, KEY.provider),
            FeatureKey(KEY.weights, Digest.of(b"another"), KEY.provider),
            FeatureKey(KEY.weights, KEY.recipe, "there"),
            FeatureKey(KEY.weights, KEY.recipe, KEY.provider, "pooled"),
        ],
    )
    def test_what_features_depend_on_keeps_them_apart(self, store: FeatureStore, other: FeatureKey) -> None:
        assert other.digest != KEY.digest
        store.put(KEY, items(3), rows(3, 4))
        assert has(store, other, items(3)) == [False] * 3
        store.put(other, items(3), rows(3, 2, 2))
        assert store.find(other, items(3)).rows.shape == (3, 2, 2)
        assert store.find(KEY, items(3)).rows.shape == (3, 4)

    @pytest.mark.parametrize(
        "wrong",
        [
            rows(2, 4).astype(np.float64),
            rows(2, 4).astype(np.float16),
            rows(3, 4),
            rows(1, 4),
            rows(2, 5),
            rows(2),
            rows(2, 2, 2),
            np.array(1, np.float32),
        ],
        ids=lambda each: f"{each.dtype}-{each.shape}",
    )
    def test_rows_unlike_the_others_are_refused(self, store: FeatureStore, wrong: np.ndarray) -> None:
        store.put(KEY, items(2), rows(2, 4))
        with pytest.raises(InvalidValue, match="expected"):
            store.put(KEY, items(2, start=5), wrong)
        assert has(store, KEY, items(10)) == [True] * 2 + [False] * 8

    def test_rows_stay_whatever_becomes_of_the_array(self, store: FeatureStore) -> None:
        mine = rows(5, 4)
        store.put(KEY, items(5), mine)
        mine[:] = -1
        found = store.find(KEY, items(5)).rows
        assert np.array_equal(found, rows(5, 4))
        if found.flags.writeable:
            found[:] = -1
        assert np.array_equal(store.find(KEY, items(5)).rows, rows(5, 4))

    def test_rows_need_not_be_contiguous(self, store: FeatureStore) -> None:
        wide = np.random.default_rng(0).standard_normal((6, 8)).astype(np.float32)
        store.put(KEY, items(4), wide[1:5, ::2])
        assert np.array_equal(store.find(KEY, items(4)).rows, wide[1:5, ::2])

    def test_rows_over_the_bound_are_not_kept(self) -> None:
        store = self.open(64 << 10)
        store.put(KEY, items(1), rows(1, 1 << 20))
        assert has(store, KEY, items(1)) == [False]
        store.put(KEY, items(100), rows(100, 256))
        kept = has(store, KEY, items(100))
        assert 40 < sum(kept) < 64
        assert kept == sorted(kept, reverse=True)
        assert np.array_equal(store.find(KEY, items(100)).rows, rows(sum(kept), 256))

    def test_the_key_not_used_for_longest_makes_room(self) -> None:
        store = self.open(64 << 10)
        for key in (KEY, OTHER):
            store.put(key, items(24), rows(24, 256))
        store.find(KEY, items(1))
        store.put(THIRD, items(24), rows(24, 256))
        assert [sum(has(store, key, items(24))) for key in (KEY, OTHER, THIRD)] == [24, 0, 24]

    def test_rows_in_use_outlive_their_eviction(self) -> None:
        store = self.open(64 << 10)
        store.put(KEY, items(40), rows(40, 256))
        used = store.find(KEY, items(40)).rows
        store.put(OTHER, items(40), rows(40, 256) + 100)
        assert not any(has(store, KEY, items(40)))
        assert np.array_equal(used, rows(40, 256))

    def test_a_store_without_room_keeps_nothing(self) -> None:
        store = self.open(0)
        store.put(KEY, items(2), rows(2, 4))
        assert has(store, KEY, items(2)) == [False] * 2

    def test_many_small_puts_add_up(self, store: FeatureStore) -> None:
        for start in range(0, 120, 3):
            store.put(KEY, items(3, start=start), rows(3, 4, start=start))
        found = store.find(KEY, items(120))
        assert found.mask.all() and np.array_equal(found.rows, rows(120, 4))

    def test_threads_may_share_a_store(self, store: FeatureStore) -> None:
        errors: list[Exception] = []

        def work(start: int) -> None:
            try:
                for each in range(start, start + 40, 4):
                    store.put(KEY, items(6, start=each), rows(6, 4, start=each))
                    found = store.find(KEY, items(6, start=each))
                    assert found.mask.all() and np.array_equal(found.rows, rows(6, 4, start=each))
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(start,)) for start in (0, 10, 20, 60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert store.find(KEY, items(100)).mask.all()

    @pytest.mark.parametrize("seed", range(10))
    def test_it_answers_as_a_mapping_would(self, store: FeatureStore, seed: int) -> None:
        lot = np.random.default_rng(seed)
        expected: dict[tuple[FeatureKey, int], float] = {}
        everything = items(31)
        for _ in range(8):
            key = (KEY, OTHER)[lot.integers(2)]
            numbers = lot.integers(0, 31, lot.integers(12))
            values = lot.standard_normal((len(numbers), 1)).astype(np.float32)
            store.put(key, [everything[number] for number in numbers], values)
            for number, value in zip(numbers, values[:, 0], strict=True):
                expected.setdefault((key, number), value)
            for asked in (KEY, OTHER):
                found = store.find(asked, everything[::-1])
                there = [number for number in reversed(range(31)) if (asked, number) in expected]
                assert np.flatnonzero(found.mask[::-1]).tolist() == there[::-1]
                assert found.rows.reshape(-1).tolist() == [expected[asked, number] for number in there]
