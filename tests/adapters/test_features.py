"""Features are computed once for each content, in eval mode, at any boundary."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from adapters.datasets import TEST, TRAIN, Dataset
from adapters.features import carry, compute, taps
from adapters.progress import Silent
from registry.cache import FeatureKey, FeatureStore, MemoryStore
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


def _compute(data: Dataset, index: np.ndarray, store: FeatureStore) -> np.ndarray:
    return compute(TinySource().load(), data, index, device=CPU, store=store, progress=Silent())


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_what_is_carried_is_what_the_stages_leave(shapes_data: Dataset, stop: int) -> None:
    index = shapes_data.index(TEST)
    with torch.no_grad():
        expected = TinySource().load().run(torch.from_numpy(shapes_data.pixels[index]), stop=stop)
    rows = carry(
        TinySource().load(), stop, shapes_data, index, device=CPU, store=MemoryStore(), progress=Silent()
    )
    got = rows.batch(np.arange(len(index)))["h"]
    assert got.dtype == np.float32 and np.allclose(got, expected.numpy(), atol=1e-6)


def test_taps_are_the_means_at_each_boundary(shapes_data: Dataset) -> None:
    index = shapes_data.index(TEST)
    stages = TinySource().load()
    got = taps(stages, [3, 1], shapes_data, index, device=CPU, store=MemoryStore(), progress=Silent())
    assert sorted(got) == [1, 3]
    with torch.no_grad():
        low = stages.run(torch.from_numpy(shapes_data.pixels[index]), stop=1)
    assert np.allclose(got[1], low.mean((2, 3)).numpy(), atol=1e-6)
    assert np.array_equal(got[3], _compute(shapes_data, index, MemoryStore()))


def test_stages_in_training_mode_are_put_back_first(shapes_data: Dataset) -> None:
    index = shapes_data.index(TEST)
    stages = TinySource().load()
    stages.train()
    got = compute(stages, shapes_data, index, device=CPU, store=MemoryStore(), progress=Silent())
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
    other = compute(TinySource().load(5), shapes_data, index, device=CPU, store=store, progress=Silent())
    assert store.given == 2 * len(index) and not np.array_equal(first, other)
