"""What every blob store keeps to."""

import os
import threading
from abc import ABC, abstractmethod

import pytest

from registry.blobs import Blobs
from registry.digests import Digest
from registry.errors import DamagedBlob, InvalidValue, MissingBlob

DATA = b"a trunk of some kind " * 1000
DIGEST = Digest.of(DATA)
ABSENT = Digest.of(b"never stored")


class BlobsContract(ABC):
    """Inherit, provide the fixture ``blobs`` (an empty store) and the two ways to tamper with it."""

    @abstractmethod
    def overwrite(self, blobs: Blobs, digest: Digest, data: bytes) -> None:
        """Change stored bytes behind the store's back."""

    @abstractmethod
    def leave_staged(self, blobs: Blobs, digest: Digest, data: bytes) -> None:
        """Leave what a writer leaves that dies before it publishes."""

    def test_what_is_put_is_read(self, blobs: Blobs) -> None:
        blobs.put(DIGEST, DATA)
        assert blobs.read(DIGEST) == DATA
        assert blobs.path(DIGEST).read_bytes() == DATA
        assert blobs.size(DIGEST) == len(DATA)
        with blobs.open(DIGEST) as stream:
            assert stream.read(7) == DATA[:7]
        blobs.check(DIGEST)

    def test_nothing_is_a_blob_too(self, blobs: Blobs) -> None:
        blobs.put(Digest.of(), b"")
        assert blobs.read(Digest.of()) == b""
        assert blobs.size(Digest.of()) == 0

    def test_putting_again_changes_nothing(self, blobs: Blobs) -> None:
        blobs.put(DIGEST, DATA)
        before = [*blobs.list()]
        blobs.put(DIGEST, DATA)
        assert [*blobs.list()] == before

    def test_bytes_of_another_digest_are_refused(self, blobs: Blobs) -> None:
        with pytest.raises(DamagedBlob):
            blobs.put(ABSENT, DATA)
        assert blobs.size(ABSENT) is None
        assert [*blobs.list(), *blobs.staged()] == []

    def test_a_blob_that_is_not_there_is_missing(self, blobs: Blobs) -> None:
        assert blobs.size(ABSENT) is None
        for ask in (blobs.read, blobs.open, blobs.path, blobs.check):
            with pytest.raises(MissingBlob, match=ABSENT):
                ask(ABSENT)

    def test_damage_is_noticed_on_reading(self, blobs: Blobs) -> None:
        blobs.put(DIGEST, DATA)
        flipped = bytearray(DATA)
        flipped[len(DATA) // 2] ^= 1
        for damaged in (bytes(flipped), DATA[:-1], b""):
            self.overwrite(blobs, DIGEST, damaged)
            with pytest.raises(DamagedBlob, match=DIGEST):
                blobs.read(DIGEST)
            with pytest.raises(DamagedBlob, match=DIGEST):
                blobs.check(DIGEST)

    def test_storing_again_mends_damage(self, blobs: Blobs) -> None:
        blobs.put(DIGEST, DATA)
        self.overwrite(blobs, DIGEST, b"damaged")
        blobs.put(DIGEST, DATA)
        assert blobs.read(DIGEST) == DATA

    def test_deleting_takes_away_and_may_be_repeated(self, blobs: Blobs) -> None:
        blobs.put(DIGEST, DATA)
        blobs.delete(DIGEST)
        blobs.delete(DIGEST)
        assert blobs.size(DIGEST) is None
        assert [*blobs.list()] == []
        blobs.put(DIGEST, DATA)
        assert blobs.read(DIGEST) == DATA

    def test_everything_stored_is_listed(self, blobs: Blobs) -> None:
        contents = [os.urandom(100 + index) for index in range(20)]
        for data in contents:
            blobs.put(Digest.of(data), data)
        assert {(each.digest, each.bytes) for each in blobs.list()} == {
            (Digest.of(data), len(data)) for data in contents
        }
        assert [*blobs.staged()] == []

    def test_what_was_left_behind_is_listed_apart_and_discarded(self, blobs: Blobs) -> None:
        self.leave_staged(blobs, DIGEST, DATA[:50])
        (staged,) = blobs.staged()
        assert (staged.digest, staged.bytes) == (DIGEST, 50)
        assert blobs.size(DIGEST) is None
        assert [*blobs.list()] == []
        blobs.discard(staged.name)
        blobs.discard(staged.name)
        assert [*blobs.staged()] == []

    @pytest.mark.parametrize("name", ["../sha256", "/etc/passwd", "..", "a/b"])
    def test_discarding_reaches_nothing_else(self, blobs: Blobs, name: str) -> None:
        blobs.put(DIGEST, DATA)
        with pytest.raises(MissingBlob):
            blobs.discard(name)
        assert blobs.read(DIGEST) == DATA

    def test_many_may_put_the_same_at_once(self, blobs: Blobs) -> None:
        errors: list[Exception] = []

        def put() -> None:
            try:
                for _ in range(5):
                    blobs.put(DIGEST, DATA)
                    blobs.read(DIGEST)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=put) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert blobs.read(DIGEST) == DATA
        assert [*blobs.staged()] == []

    # Marks

    def test_a_mark_is_read_as_it_was_last_written(self, blobs: Blobs) -> None:
        assert blobs.marks() == {}
        blobs.mark("a1.b2", b"one")
        blobs.mark("a1-c3", b"two")
        blobs.mark("a1.b2", b"")
        assert blobs.marks() == {"a1.b2": b"", "a1-c3": b"two"}

    def test_a_mark_is_taken_away_once_and_again(self, blobs: Blobs) -> None:
        blobs.unmark("a1")
        blobs.mark("a1", b"one")
        blobs.unmark("a1")
        blobs.unmark("a1")
        assert blobs.marks() == {}

    def test_marks_are_no_blobs(self, blobs: Blobs) -> None:
        blobs.mark("a1", b"one")
        assert [*blobs.list(), *blobs.staged()] == []

    @pytest.mark.parametrize("name", ["", "../x", "a/b", "A", "a..b", ".a", "a b", "a" * 101])
    def test_a_mark_has_a_plain_name(self, blobs: Blobs, name: str) -> None:
        with pytest.raises(InvalidValue, match="mark"):
            blobs.mark(name, b"")
        with pytest.raises(InvalidValue, match="mark"):
            blobs.unmark(name)

    def test_a_mark_is_small(self, blobs: Blobs) -> None:
        blobs.mark("a1", bytes(1 << 16))
        with pytest.raises(InvalidValue, match="65,536"):
            blobs.mark("a1", bytes((1 << 16) + 1))

    def test_a_mark_that_many_write_is_whole_whenever_it_is_read(self, blobs: Blobs) -> None:
        blobs.mark("a1", bytes(5000))
        over = threading.Event()

        def write(value: int) -> None:
            while not over.is_set():
                blobs.mark("a1", bytes([value]) * 5000)

        threads = [threading.Thread(target=write, args=[value]) for value in (1, 2, 3)]
        for thread in threads:
            thread.start()
        seen = [blobs.marks()["a1"] for _ in range(300)]
        over.set()
        for thread in threads:
            thread.join()
        assert {(len(data), len(set(data))) for data in seen} == {(5000, 1)}

    def test_a_store_is_known_by_its_place(self, blobs: Blobs) -> None:
        assert blobs.place()
        assert blobs.place() == blobs.place()
