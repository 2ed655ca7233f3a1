"""Features in memory and on disk."""

import fcntl
import json
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from registry import cache
from registry.cache import DiskStore, FeatureStore, MemoryStore
from registry.steps import PUBLISHED, STAGED
from tests.contracts.features import KEY, OTHER, PLENTY, THIRD, FeatureStoreContract, has, items, rows
from tests.full_disk import files_of_at_most

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])


class TestMemoryStore(FeatureStoreContract):
    def open(self, max_bytes: int) -> FeatureStore:
        return MemoryStore(max_bytes)


class TestDiskStore(FeatureStoreContract):
    root: Path

    @pytest.fixture(autouse=True)
    def settle(self, tmp_path: Path) -> None:
        self.root = tmp_path

    def open(self, max_bytes: int) -> FeatureStore:
        return DiskStore(Path(tempfile.mkdtemp(dir=self.root)) / "features", max_bytes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "features"


@pytest.fixture
def store(folder: Path) -> DiskStore:
    return DiskStore(folder, PLENTY)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.rows"))


def test_rows_outlive_the_process(store: DiskStore, folder: Path) -> None:
    store.put(KEY, items(10), rows(10, 4))
    found = DiskStore(folder, PLENTY).find(KEY, items(12))
    assert found.mask.tolist() == [True] * 10 + [False] * 2
    assert np.array_equal(found.rows, rows(10, 4))


def test_rows_that_lie_together_are_mapped_and_cannot_be_changed(store: DiskStore) -> None:
    store.put(KEY, items(10), rows(10, 4))
    first, again = (store.find(KEY, items(6, start=2)).rows for _ in range(2))
    assert np.shares_memory(first, again)
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 1


def test_a_store_sees_what_another_adds(store: DiskStore, folder: Path) -> None:
    other = DiskStore(folder, PLENTY)
    store.put(KEY, items(10), rows(10, 4))
    assert all(has(other, KEY, items(10)))
    other.put(KEY, items(20), rows(20, 4))
    assert np.array_equal(store.find(KEY, items(20)).rows, rows(20, 4))


def test_each_key_says_what_it_is(store: DiskStore, folder: Path) -> None:
    store.put(KEY, items(1), rows(1, 4))
    described = json.loads((folder / KEY.digest.hex / "key.json").read_bytes())
    assert described == {
        "weights": [*KEY.weights],
        "recipe": KEY.recipe,
        "provider": "here",
        "view": "carried",
    }


def test_many_small_puts_leave_few_files(store: DiskStore, folder: Path) -> None:
    for number in range(100):
        store.put(KEY, items(1, start=number), rows(1, 4, start=number))
    assert len(shards(folder)) <= 8
    assert np.array_equal(store.find(KEY, items(100)).rows, rows(100, 4))


def test_the_folder_stays_within_its_bound(folder: Path) -> None:
    store = DiskStore(folder, 100_000)
    for number, key in enumerate((KEY, OTHER, THIRD) * 5):
        start = 50 * number
        store.put(key, items(50, start=start), rows(50, 64, start=start))
        taken = sum(path.stat().st_size for path in folder.rglob("*"))
        assert taken - sum(path.stat().st_size for path in folder.rglob("*") if path.is_dir()) <= 100_000
        assert all(has(store, key, items(5, start=start)))


def test_rows_mapped_by_one_outlive_their_eviction_by_another(store: DiskStore, folder: Path) -> None:
    store.put(KEY, items(100), rows(100, 256))
    mapped = store.find(KEY, items(100)).rows
    DiskStore(folder, 110_000).put(OTHER, items(80), rows(80, 256))
    assert not (folder / KEY.digest.hex).exists()
    assert np.array_equal(mapped, rows(100, 256))
    assert not any(has(store, KEY, items(100)))


def test_files_that_are_none_of_ours_stay(folder: Path) -> None:
    (folder / "notes").mkdir(parents=True)
    (folder / "notes" / "long.txt").write_bytes(bytes(100_000))
    store = DiskStore(folder, 20_000)
    for key in (KEY, OTHER, THIRD):
        store.put(key, items(10), rows(10, 256))
        assert all(has(store, key, items(10)))
    assert (folder / "notes" / "long.txt").exists()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "garbage": lambda data: os.urandom(500),
    "cut off in its digests": lambda data: data[:150],
    "cut off in its rows": lambda data: data[:-5],
    "one bit flipped": lambda data: data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
    "longer": lambda data: data + bytes(32),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_rows_are_absent_and_counted_and_replaced(
    store: DiskStore, folder: Path, damage: str
) -> None:
    store.put(KEY, items(100), rows(100, 8))
    store.put(KEY, items(10, start=100), rows(10, 8, start=100))
    large, small = sorted(shards(folder), key=lambda path: -path.stat().st_size)
    large.write_bytes(DAMAGES[damage](large.read_bytes()))
    late = DiskStore(folder, PLENTY)
    found = late.find(KEY, items(110))
    assert found.mask.tolist() == [False] * 100 + [True] * 10
    assert np.array_equal(found.rows, rows(10, 8, start=100))
    assert late.damaged == 1
    assert shards(folder) == [small]
    late.put(KEY, items(100), rows(100, 8))
    again = DiskStore(folder, PLENTY)
    assert np.array_equal(again.find(KEY, items(110)).rows, rows(110, 8))
    assert again.damaged == 0


def test_a_shard_of_another_key_is_no_shard_of_this(store: DiskStore, folder: Path) -> None:
    store.put(KEY, items(3), rows(3, 4))
    store.put(OTHER, items(9), rows(9, 7))
    (there,) = (folder / OTHER.digest.hex).glob("*.rows")
    shutil.copy(there, folder / KEY.digest.hex / ("f" * 16 + there.name[16:]))
    found = DiskStore(folder, PLENTY).find(KEY, items(9))
    assert found.mask.tolist() == [True] * 3 + [False] * 6
    assert np.array_equal(found.rows, rows(3, 4))


def test_a_full_disk_stops_nothing(store: DiskStore, folder: Path) -> None:
    store.put(KEY, items(10), rows(10, 4))
    with files_of_at_most(2000):
        store.put(KEY, items(200, start=50), rows(200, 4, start=50))
        store.put(OTHER, items(100), rows(100, 64))
    assert "free some space" in str(store.problem)
    assert np.array_equal(store.find(KEY, items(10)).rows, rows(10, 4))
    assert not any(has(store, KEY, items(200, start=50)) + has(store, OTHER, items(100)))
    assert [*folder.rglob("*.part")] == []
    store.put(OTHER, items(100), rows(100, 64))
    assert all(has(store, OTHER, items(100)))


def test_a_folder_that_cannot_be_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = DiskStore(tmp_path / "file" / "features", PLENTY)
    assert store.find(KEY, items(2)).mask.tolist() == [False] * 2
    store.put(KEY, items(2), rows(2, 4))
    assert "could not keep" in str(store.problem)


def test_a_writer_that_never_ends_stops_nothing(
    store: DiskStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache.disk, "LOCK_SECONDS", 0.1)
    store.put(KEY, items(2), rows(2, 4))
    with (folder / "lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        store.put(KEY, items(4), rows(4, 4))
        assert has(store, KEY, items(4)) == [True, True, False, False]
    assert "another process" in str(store.problem)
    store.put(KEY, items(4), rows(4, 4))
    assert all(has(store, KEY, items(4)))


def test_processes_append_at_once(folder: Path, store: DiskStore) -> None:
    start = PROCESSES.Barrier(2)
    children = [PROCESSES.Process(target=_append, args=(folder, start, first)) for first in (0, 100)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0]
    found = store.find(KEY, items(300))
    assert found.mask.all() and np.array_equal(found.rows, rows(300, 16))
    assert store.damaged == 0 and [*folder.rglob("*.part")] == []


def _append(folder: Path, start: threading.Barrier, first: int) -> None:
    """Put 200 rows in small portions, and find each of them at once."""
    store = DiskStore(folder, PLENTY)
    start.wait()
    for each in range(first, first + 200, 8):
        store.put(KEY, items(8, start=each), rows(8, 16, start=each))
        found = store.find(KEY, items(8, start=each))
        assert found.mask.all() and np.array_equal(found.rows, rows(8, 16, start=each))
    assert store.problem is None and store.damaged == 0


def test_an_append_killed_at_any_step_leaves_whole_rows(folder: Path, store: DiskStore) -> None:
    store.put(KEY, items(4), rows(4, 16))
    children = [PROCESSES.Process(target=_die, args=(folder, step)) for step in range(len(STEPS))]
    for step, child in enumerate(children):
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        late = DiskStore(folder, PLENTY)
        found = late.find(KEY, items(8))
        assert found.mask[:4].all()
        assert found.mask[4:].all() == (STEPS[step] == PUBLISHED)
        assert np.array_equal(found.rows, rows(8, 16)[found.mask])
        assert late.damaged == 0
    store.put(OTHER, items(4), rows(4, 16))
    assert [*folder.rglob("*.part")] == []
    store.put(KEY, items(16), rows(16, 16))
    assert np.array_equal(store.find(KEY, items(16)).rows, rows(16, 16))


STEPS = (STAGED, STAGED, PUBLISHED)
"""Of one put: what the key is, its shard, and the shard in place of those that it was merged with."""


def _die(folder: Path, fatal: int) -> None:
    left = [*STEPS]

    def announce(step: str) -> None:
        assert left.pop(0) == step
        if len(STEPS) - len(left) == fatal + 1:
            os.kill(os.getpid(), signal.SIGKILL)

    DiskStore(folder, PLENTY, announce).put(KEY, items(8), rows(8, 16))


def test_a_write_killed_half_way_leaves_nothing_to_be_seen(folder: Path, store: DiskStore) -> None:
    store.put(KEY, items(4), rows(4, 16))
    child = PROCESSES.Process(target=_die_writing, args=(folder,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGXFSZ
    (torn,) = folder.rglob("*.part")
    assert torn.stat().st_size == 2000
    late = DiskStore(folder, PLENTY)
    assert has(late, KEY, items(100)) == [True] * 4 + [False] * 96
    late.put(KEY, items(100), rows(100, 16))
    assert not torn.exists()
    assert np.array_equal(store.find(KEY, items(100)).rows, rows(100, 16))


def _die_writing(folder: Path) -> None:
    """Put more than the operating system lets a file hold, which kills where nobody says otherwise."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    DiskStore(folder, PLENTY).put(KEY, items(100), rows(100, 16))
