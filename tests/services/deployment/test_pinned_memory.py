"""Rows on their way to a device."""

import gc
import threading
from weakref import ref

import numpy as np
import pytest

from registry.runtime import CUDA, usable_providers
from services.deployment.pinned_memory import PinnedBuffers, page_locked


def ordinary(size: int) -> None:
    """Give no memory of its own kind."""


def test_rows_are_filled_up_with_the_last_one() -> None:
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    staged = PinnedBuffers(ordinary).stage("x", rows, 4)
    assert staged.dtype == np.float32
    np.testing.assert_array_equal(staged, [[0, 1], [2, 3], [4, 5], [4, 5]])


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16"])
def test_rows_of_every_kind_and_shape_are_the_same_there(dtype: str) -> None:
    staging = PinnedBuffers(ordinary)
    for shape in [(1, 8, 8, 3), (4, 5), (2, 16), (4,)]:
        rows = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
        staged = staging.stage("x", rows, len(rows))
        assert staged.flags.c_contiguous
        np.testing.assert_array_equal(staged, rows)


def test_memory_is_taken_again_and_grows_with_what_is_asked_for() -> None:
    taken: list[int] = []

    def allocate(size: int) -> np.ndarray:
        taken.append(size)
        return np.empty(size, np.uint8)

    staging = PinnedBuffers(allocate)
    first = staging.stage("x", np.zeros((4, 25), np.uint8), 4)
    again = staging.stage("x", np.ones((2, 25), np.uint8), 2)
    assert np.shares_memory(first, again)
    staging.stage("x", np.zeros((8, 25), np.uint8), 8)
    staging.stage("y", np.zeros((1, 10), np.uint8), 1)
    assert taken == [128, 256, 16]


def test_threads_and_inputs_do_not_share_memory() -> None:
    staging = PinnedBuffers(ordinary)
    rows = np.zeros((2, 3), np.uint8)
    staged = [staging.stage("x", rows, 2), staging.stage("y", rows, 2)]
    other = threading.Thread(target=lambda: staged.append(staging.stage("x", rows, 2)))
    other.start()
    other.join()
    for number, one in enumerate(staged):
        assert not any(np.shares_memory(one, another) for another in staged[:number])


def test_memory_goes_with_the_staging() -> None:
    memory: list[ref[np.ndarray]] = []

    def allocate(size: int) -> np.ndarray:
        given = np.empty(size, np.uint8)
        memory.append(ref(given))
        return given

    staging = PinnedBuffers(allocate)
    staging.stage("x", np.zeros((2, 3), np.uint8), 2)
    assert memory[0]() is not None
    del staging
    gc.collect()
    assert memory[0]() is None


def test_page_locked_memory_comes_from_the_driver_or_not_at_all() -> None:
    memory = page_locked(4096)
    if usable_providers()[0] != CUDA:
        assert memory is None
        return
    assert memory is not None
    assert memory.shape == (4096,)
    memory[:] = 7
    assert memory.sum() == 7 * 4096
