"""Features are computed once for each content, in eval mode, at any boundary."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import torch

from adapters.datasets import TEST, TRAIN, Dataset
from adapters.features import FeatureKey, FeatureStore, MemoryStore, compute
from adapters.progress import Silent
from registry.digests import Digest
from tests.adapters.tiny import TinySource

CPU = torch.device("cpu")


class Counting(MemoryStore):
    """Counts the rows that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0

    def put(self, key: FeatureKey, items: Sequence[Digest], rows: np.ndarray) -> None:
        self.given += len(rows)
        super().put(key, items, rows)


def _compute(data: Dataset, index: np.ndarray, store: FeatureStore, stop: int = 3) -> np.ndarray:
    return compute(TinySource().load(), stop, data, index, device=CPU, store=store, progress=Silent())


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_they_are_what_the_stages_leave(shapes_data: Dataset, stop: int) -> None:
    index = shapes_data.index(TEST)
    with torch.no_grad():
        expected = TinySource().load().run(torch.from_numpy(shapes_data.pixels[index]), stop=stop)
    got = _compute(shapes_data, index, MemoryStore(), stop)
    assert got.dtype == np.float32 and np.allclose(got, expected.numpy(), atol=1e-6)


def test_stages_in_training_mode_are_put_back_first(shapes_data: Dataset) -> None:
    index = shapes_data.index(TEST)
    stages = TinySource().load()
    stages.train()
    got = compute(stages, 3, shapes_data, index, device=CPU, store=MemoryStore(), progress=Silent())
    assert np.array_equal(got, _compute(shapes_data, index, MemoryStore()))


def test_only_what_is_new_is_computed(shapes_data: Dataset) -> None:
    store = Counting()
    everything = np.arange(len(shapes_data))
    _compute(shapes_data, everything[:50], store)
    assert store.given == 50
    order = everything[::-1]
    again = _compute(shapes_data, order, store)
    assert store.given == len(shapes_data)
    assert np.allclose(again, _compute(shapes_data, order, MemoryStore()), atol=1e-6)


def test_other_stages_have_features_of_their_own(shapes_data: Dataset) -> None:
    store = Counting()
    index = shapes_data.index(TRAIN)
    first = _compute(shapes_data, index, store)
    other = compute(TinySource().load(5), 3, shapes_data, index, device=CPU, store=store, progress=Silent())
    assert store.given == 2 * len(index) and not np.array_equal(first, other)


def test_the_oldest_rows_make_room() -> None:
    key = FeatureKey((), Digest.of(b"recipe"), "here")
    items = [Digest.of(bytes([number])) for number in range(10)]
    rows = np.zeros((10, 4), np.float32)
    store = MemoryStore(max_bytes=5 * 16)
    for item, row in zip(items, rows, strict=True):
        store.put(key, [item], row[None])
    kept: Mapping[Digest, np.ndarray] = store.get(key, items)
    assert set(kept) == set(items[5:])
    store.put(key, items, rows)
    assert set(store.get(key, items)) == set(items[5:])
