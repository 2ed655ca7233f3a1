"""Features are computed once for each content, in eval mode, at any boundary."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from adapters.datasets import TEST, TRAIN, Dataset
from adapters.datasets.rows import CarriedRows, DenseRows, PreparedRows
from adapters.features import batches, carry, compute, taps, tensors
from registry.cache import FeatureKey, FeatureStore, MemoryStore
from registry.digests import Digest
from registry.progress import SILENT
from tests.adapters.tiny import TinySource
from tests.adapters.tiny_text import TinyTextSource

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
    return compute(TinySource().load(), data, index, device=CPU, store=store, progress=SILENT)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_what_is_carried_is_what_the_stages_leave(shapes_data: Dataset, stop: int) -> None:
    index = shapes_data.index(TEST)
    with torch.no_grad():
        expected = TinySource().load().run(torch.from_numpy(shapes_data.pixels[index]), stop=stop)
    rows = carry(
        TinySource().load(), stop, shapes_data, index, device=CPU, store=MemoryStore(), progress=SILENT
    )
    got = rows.batch(np.arange(len(index)))["h"]
    assert got.dtype == np.float32 and np.allclose(got, expected.numpy(), atol=1e-6)


def test_taps_are_the_means_at_each_boundary(shapes_data: Dataset) -> None:
    index = shapes_data.index(TEST)
    stages = TinySource().load()
    got = taps(stages, [3, 1], shapes_data, index, device=CPU, store=MemoryStore(), progress=SILENT)
    assert sorted(got) == [1, 3]
    with torch.no_grad():
        low = stages.run(torch.from_numpy(shapes_data.pixels[index]), stop=1)
    assert np.allclose(got[1], low.mean((2, 3)).numpy(), atol=1e-6)
    assert np.array_equal(got[3], _compute(shapes_data, index, MemoryStore()))


def test_stages_in_training_mode_are_put_back_first(shapes_data: Dataset) -> None:
    index = shapes_data.index(TEST)
    stages = TinySource().load()
    stages.train()
    got = compute(stages, shapes_data, index, device=CPU, store=MemoryStore(), progress=SILENT)
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
    other = compute(TinySource().load(5), shapes_data, index, device=CPU, store=store, progress=SILENT)
    assert store.given == 2 * len(index) and not np.array_equal(first, other)


def _carry(data: Dataset, stop: int, store: FeatureStore) -> PreparedRows:
    everything = np.arange(len(data))
    return carry(TinyTextSource().load(), stop, data, everything, device=CPU, store=store, progress=SILENT)


def _alone(data: Dataset, at: int, boundary: int) -> np.ndarray:
    """Return what the stages below a boundary leave of one text, padding cut off."""
    fields = tensors(data.rows.batch(np.array([at])), CPU)
    with torch.no_grad():
        left = TinyTextSource().load().run(fields["input_ids"], stop=boundary, sides=fields)
    length = int(data.rows.lengths(np.array([at]))[0])
    return left[0].numpy()[:length] if left.ndim == 3 else left[0].numpy()


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_what_is_carried_of_texts_is_what_the_stages_leave(moods_data: Dataset, stop: int) -> None:
    store = Counting()
    rows = _carry(moods_data, stop, store)
    assert isinstance(rows, CarriedRows) and store.given == 0
    index = np.array([7, 2, 40])
    fields = rows.batch(index)
    assert fields["h"].shape[:2] == fields["attention_mask"].shape
    for at, row, mask in zip(index, fields["h"], fields["attention_mask"], strict=True):
        np.testing.assert_allclose(row[: mask.sum()], _alone(moods_data, at, stop), rtol=0, atol=1e-5)
        assert not row[mask.sum() :].any()


def test_stages_above_go_on_from_what_is_carried(moods_data: Dataset) -> None:
    stages = TinyTextSource().load()
    fields = tensors(_carry(moods_data, 2, MemoryStore()).batch(np.arange(20)), CPU)
    with torch.no_grad():
        got = stages.run(fields["h"], 2, sides=fields).numpy()
    index = np.arange(20)
    expected = compute(stages, moods_data, index, device=CPU, store=MemoryStore(), progress=SILENT)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_vectors_of_texts_are_carried_and_kept_as_pictures_are(moods_data: Dataset) -> None:
    store = Counting()
    first, again = (_carry(moods_data, 4, store) for _ in range(2))
    assert isinstance(first, DenseRows) and store.given == len(moods_data)
    assert np.array_equal(first.batch(np.arange(9))["h"], again.batch(np.arange(9))["h"])


def test_padding_changes_no_feature(moods_data: Dataset) -> None:
    everything = np.arange(len(moods_data))
    stages = TinyTextSource().load()
    together = compute(stages, moods_data, everything, device=CPU, store=MemoryStore(), progress=SILENT)
    longest = int(moods_data.rows.lengths(everything).argmax())
    for at in everything[:12]:
        np.testing.assert_allclose(together[at], _alone(moods_data, at, 4), rtol=0, atol=1e-5)
        padded = tensors(moods_data.rows.batch(np.array([at, longest])), CPU)
        assert padded["input_ids"].shape[1] == 32
        with torch.no_grad():
            np.testing.assert_allclose(together[at], stages(padded)[0].numpy(), rtol=0, atol=1e-5)


def test_taps_of_texts_are_means_over_the_tokens_that_count(moods_data: Dataset) -> None:
    index = moods_data.index(TEST)
    stages = TinyTextSource().load()
    got = taps(stages, [1, 3, 4], moods_data, index, device=CPU, store=MemoryStore(), progress=SILENT)
    for boundary in (1, 3):
        means = [_alone(moods_data, at, boundary).mean(axis=0) for at in index]
        np.testing.assert_allclose(got[boundary], means, rtol=0, atol=1e-5)
    np.testing.assert_allclose(got[4], got[3], rtol=0, atol=1e-5)


def test_taps_are_kept_and_only_those_that_lack_are_computed(moods_data: Dataset) -> None:
    store, everything = Counting(), np.arange(len(moods_data))
    stages = TinyTextSource().load()

    def tapped(boundaries: list[int], index: np.ndarray) -> dict[int, np.ndarray]:
        return taps(stages, boundaries, moods_data, index, device=CPU, store=store, progress=SILENT)

    first = tapped([2, 4], everything[:50])
    assert store.given == 100
    assert np.array_equal(tapped([4], everything[:50])[4], first[4]) and store.given == 100
    both = tapped([2, 4], everything[::-1])
    assert store.given == 2 * len(everything)
    assert np.array_equal(both[2][::-1][:50], first[2])


def test_rows_of_like_length_share_a_batch_and_none_is_lost(moods_data: Dataset) -> None:
    index = moods_data.index(TRAIN)
    cut = list(batches(moods_data.rows, index, 16))
    assert sorted(np.concatenate(cut).tolist()) == list(range(len(index)))
    lengths = moods_data.rows.lengths(index)[np.concatenate(cut)]
    assert (np.diff(lengths) >= 0).all()
