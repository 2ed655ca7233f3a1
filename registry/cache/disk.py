"""A feature cache in files, shared by the processes of a machine.

``<digest of the key>/key.json`` describes a key, and its modification time is the key's last use; ``<digest
of the key>/<random>.<crc32>.rows`` is a shard: digests, uint8 [N, 32], and rows, float32 [N, ...], as two
concatenated ``.npy`` arrays, named by the checksum of the whole file. A shard is written to a temporary file,
renamed into place, and never changed again. A file with a shard's name is either complete or damaged, and its
checksum shows which. So readers take no lock. Writers hold ``lock`` throughout: a partial file found by the
lock's holder was left by a process that died.

Eviction and merging unlink files that other processes may have mapped. POSIX keeps the bytes of such a file
until the last mapping is closed, so rows in use do not change. Until then the files may take more disk space
than the bound.
"""

import contextlib
import fcntl
import io
import os
import re
import secrets
import shutil
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from registry.cache.key import FeatureKey
from registry.cache.store import FeatureStore, Found
from registry.cache.table import CacheTable, Shard, absorbed, fitting, packed
from registry.digests import Digest
from registry.modes import file_mode, mode_below, mode_of, new_file, new_folder
from registry.steps import PUBLISHED, STAGED, Announce, ignore

LOCK_SECONDS = 10.0
"""How long to wait for another writer; any append is faster."""

_KEY = re.compile(r"[0-9a-f]{64}")
_SHARD = re.compile(r"[0-9a-f]{16}\.([0-9a-f]{8})\.rows")
_PART = ".part"
_HEADER_BYTES = 256
"""Largest header of a ``.npy`` array in a shard."""


class DiskStore(FeatureStore):
    """A feature cache in a folder, up to a number of bytes; the least recently used keys are evicted first.

    Problems with the folder never fail a run or return wrong rows: unreadable rows count as missing, and rows
    that cannot be written are not kept.

    Attributes:
        folder: where the files are.
        max_bytes: most bytes that the files may take.
        problem: message about the first failure to keep rows; None if there was none.
        damaged: number of damaged files found and deleted.
    """

    def __init__(self, folder: Path, max_bytes: int, announce: Announce = ignore) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.problem: str | None = None
        self.damaged = 0
        self._announce = announce
        self._shards: dict[str, dict[str, Shard | None]] = {}
        self._tables: dict[str, CacheTable] = {}
        self._guard = threading.Lock()

    def find(self, key: FeatureKey, items: Sequence[Digest]) -> Found:
        """Return the cached rows; contiguous rows are a read-only memory map."""
        name = key.digest.hex
        with self._guard:
            table = self._opened(name)
        if table.shards:
            with contextlib.suppress(OSError):
                os.utime(self.folder / name / "key.json")
        return table.find(packed(items))

    def put(self, key: FeatureKey, items: Sequence[Digest], rows: np.ndarray) -> None:
        """Store rows, and evict other keys if there are too many; record a failure in ``problem``."""
        given = Shard(packed(items), rows)
        try:
            with self._guard, self._locked():
                self._append(key, given)
        except OSError as error:
            self.problem = self.problem or (
                f"could not keep features under {self.folder}: {error.strerror or error}; "
                "free some space there, or give this account write access"
            )

    def _append(self, key: FeatureKey, given: Shard) -> None:
        name = key.digest.hex
        table = self._opened(name)
        lacking = table.lacking(given)
        sizes = self._sizes()
        free = self.max_bytes - sizes.pop(name, 0) - len(key.json) - 2 * _HEADER_BYTES
        fresh = fitting(given, lacking, free)
        if not len(fresh):
            return
        self._evict(sizes, free - fresh.bytes)
        place = self.folder / name
        new_folder(place, mode_of(self.folder))
        self._write(place / "key.json", [key.json])
        merged = absorbed(table.shards, fresh)
        old = [each for each, shard in self._shards[name].items() if shard in merged]
        whole = Shard.joined([*merged, fresh])
        pieces: list[bytes | memoryview] = [_header(whole.items), whole.items.data]
        pieces += [_header(whole.rows), whole.rows.data]
        self._write(place / f"{secrets.token_hex(8)}.{_checksum(pieces):08x}.rows", pieces)
        self._announce(PUBLISHED)
        for each in old:
            (place / each).unlink(missing_ok=True)

    def _write(self, place: Path, pieces: Sequence[bytes | memoryview]) -> None:
        part = place.with_name(place.name + _PART)
        try:
            with part.open("wb") as file:
                os.fchmod(file.fileno(), file_mode(mode_of(self.folder)))
                for piece in pieces:
                    file.write(piece)
            self._announce(STAGED)
            part.replace(place)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise

    def _opened(self, name: str) -> CacheTable:
        """Return the table of a key from the current files; a shard is checked when it is first read."""
        known = self._shards.get(name, {})
        try:
            present = {entry.name for entry in os.scandir(self.folder / name) if _SHARD.fullmatch(entry.name)}
        except OSError:
            present = set()
        if name in self._tables and known.keys() == present:
            return self._tables[name]
        shards = {each: known[each] if each in known else self._read(name, each) for each in sorted(present)}
        table = _consistent([shard for shard in shards.values() if shard is not None])
        self._shards[name], self._tables[name] = shards, table
        return table

    def _read(self, name: str, file: str) -> Shard | None:
        path = self.folder / name / file
        try:
            return _mapped(path)
        except FileNotFoundError:  # evicted or merged since it was listed
            return None
        except (OSError, TypeError, ValueError):
            self.damaged += 1
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return None

    def _sizes(self) -> dict[str, int]:
        """Return the size of each key's files, least recently used keys first; delete the leftovers of dead writers."""
        keys: list[tuple[int, str, int]] = []
        for folder in os.scandir(self.folder):
            if not _KEY.fullmatch(folder.name):
                continue
            used, size = 0, 0
            for entry in os.scandir(folder):
                if entry.name.endswith(_PART):
                    Path(entry).unlink(missing_ok=True)
                    continue
                status = entry.stat(follow_symlinks=False)
                size += status.st_size
                if entry.name == "key.json":
                    used = status.st_mtime_ns
            keys.append((used, folder.name, size))
        return {name: size for _, name, size in sorted(keys)}

    def _evict(self, sizes: dict[str, int], bound: int) -> None:
        """Evict keys until the rest fits into the bound."""
        total = sum(sizes.values())
        for name, size in sizes.items():
            if total <= bound:
                return
            shutil.rmtree(self.folder / name, ignore_errors=True)
            self._shards.pop(name, None)
            self._tables.pop(name, None)
            total -= size

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the folder's lock; the kernel releases it when a process dies."""
        for each in (self.folder.parent, self.folder):
            new_folder(each, mode_below(each.parent))
        new_file(self.folder / "lock", file_mode(mode_of(self.folder)))
        handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            _wait_for(handle)
            try:
                yield
            finally:
                fcntl.flock(handle, fcntl.LOCK_UN)
        finally:
            os.close(handle)


def _wait_for(handle: int) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process has held its lock for {LOCK_SECONDS:.0f} s") from None
            time.sleep(0.005)
        else:
            return


def _consistent(shards: list[Shard]) -> CacheTable:
    """Return the table of the shards whose row shape is the first one's; the others are dropped."""
    return CacheTable(shard for shard in shards if shard.rows.shape[1:] == shards[0].rows.shape[1:])


def _header(array: np.ndarray) -> bytes:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    return head.getvalue()


def _checksum(pieces: Sequence[bytes | memoryview]) -> int:
    """Return the CRC-32 of pieces. It detects accidents, at 1 to 2 GB/s; sha256 takes about twice as long."""
    checksum = 0
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
    return checksum


def _mapped(path: Path) -> Shard:
    """Map a shard.

    Raises:
        ValueError: its bytes have changed since they were written.
    """
    named = _SHARD.fullmatch(path.name)
    assert named is not None, "callers pass names of shards"
    whole = np.memmap(path, np.uint8, "r")
    if _checksum([whole.data]) != int(named[1], 16):
        raise ValueError("its checksum is another")
    items, end = _array(whole, 0)
    rows, _ = _array(whole, end)
    return Shard(items, rows)


def _array(whole: np.ndarray, start: int) -> tuple[np.ndarray, int]:
    """Return a view of the array whose header starts at an offset, and the offset of its end."""
    head = io.BytesIO(whole[start : start + _HEADER_BYTES].tobytes())
    np.lib.format.read_magic(head)
    shape, _, dtype = np.lib.format.read_array_header_1_0(head)
    start += head.tell()
    end = start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    return whole[start:end].view(np.ndarray).view(dtype).reshape(shape), end
