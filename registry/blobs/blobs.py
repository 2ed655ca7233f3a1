"""The contract of a blob store: immutable bytes under their digests.

A store knows digests and bytes, and nothing of versions or leases: who may delete what, and
when, is for the catalog to say. No name that a client sent ever becomes a path.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from registry.digests import Digest
from registry.errors import DamagedBlob, InvalidValue, StorageFailure

MAX_MARK_BYTES = 1 << 16
_MARK = re.compile(r"[0-9a-z]+(?:[.-][0-9a-z]+)*")


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob that is in the store.

    Attributes:
        digest: the digest that it is stored under.
        bytes: its size.
        modified: when it was stored, in UTC, by the store's clock.
    """

    digest: Digest
    bytes: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Staged:
    """Bytes on their way into the store, or left behind by a writer that died.

    Attributes:
        name: what to call them when discarding them.
        digest: what they are to be stored under.
        bytes: how many there are by now.
        modified: when they were last written to, in UTC, by the store's clock.
    """

    name: str
    digest: Digest
    bytes: int
    modified: datetime


class Blobs(ABC):
    """Immutable bytes under their digests. Safe to use from several threads and processes.

    ``tests.contracts.blobs.BlobsContract`` is the suite that every store passes.

    Attributes:
        folder: where the bytes are, if they are files of this machine, else None.
    """

    folder: Path | None = None

    @abstractmethod
    def check_writable(self) -> None:
        """Check that bytes can be stored, by writing some that nobody sees.

        Raises:
            ReadOnlyRegistry: this account may not.
            StorageFailure: they cannot.
        """

    @abstractmethod
    def put(self, digest: Digest, data: bytes) -> None:
        """Store bytes under their digest, durably, all or nothing, and read them back.

        Where sound bytes are there already they stay; damaged ones are replaced.

        Raises:
            DamagedBlob: the bytes have another digest, or did not read back as they were written.
            StorageFailure: the store failed, for want of space as an example; nothing is visible then.
        """

    @abstractmethod
    def size(self, digest: Digest) -> int | None:
        """Return how many bytes are stored under a digest, or None where there are none."""

    @abstractmethod
    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob for reading from its beginning. What comes is not checked.

        Raises:
            MissingBlob: there is none.
        """

    @abstractmethod
    def path(self, digest: Digest) -> Path:
        """Return a local read-only file that holds a blob. Its contents are not checked.

        Raises:
            MissingBlob: there is none.
        """

    @abstractmethod
    def delete(self, digest: Digest) -> None:
        """Take a blob out of the store; one that is not there is no error."""

    @abstractmethod
    def list(self) -> Iterator[Stored]:
        """Yield everything that is stored, in no order; blobs that come or go meanwhile may be missed."""

    @abstractmethod
    def staged(self) -> Iterator[Staged]:
        """Yield what is on its way in, or was left behind."""

    @abstractmethod
    def discard(self, name: str) -> None:
        """Take away something staged; what is gone already is no error."""

    # Marks: small objects beside the blobs, by which whoever uses a store is known.

    @abstractmethod
    def place(self) -> frozenset[str]:
        """Return what tells this store from its copies; stores that share one of these are the same."""

    @abstractmethod
    def mark(self, name: str, data: bytes) -> None:
        """Store a mark durably, in the place of one of the same name; readers see the old one or the new one, whole.

        Args:
            name: 1 to 100 lower-case letters and digits, with single ``.`` or ``-`` between them.
            data: up to 64 KiB.

        Raises:
            InvalidValue: name or data are none such.
            StorageFailure: the store failed, or may not be written to.
        """

    @abstractmethod
    def marks(self) -> Mapping[str, bytes]:
        """Return every mark by its name.

        Raises:
            StorageFailure: the store cannot read them.
        """

    @abstractmethod
    def unmark(self, name: str) -> None:
        """Take a mark away; one that is not there is no error.

        Raises:
            StorageFailure: the store failed, or may not be written to.
        """

    def read(self, digest: Digest) -> bytes:
        """Return a blob's bytes, checked.

        Raises:
            MissingBlob: there is none.
            DamagedBlob: the bytes no longer have this digest.
            StorageFailure: the store cannot read them.
        """
        with _reading(digest), self.open(digest) as stream:
            data = stream.read()
        _check(digest, Digest.of(data))
        return data

    def check(self, digest: Digest) -> None:
        """Read a blob through, in pieces, and compare.

        Raises:
            MissingBlob: there is none.
            DamagedBlob: the bytes no longer have this digest.
            StorageFailure: the store cannot read them.
        """
        with _reading(digest), self.open(digest) as stream:
            found = Digest.of_stream(stream)
        _check(digest, found)


def check_mark(name: str, data: bytes = b"") -> None:
    """Check a mark's name and size.

    Raises:
        InvalidValue: they break the rules of ``Blobs.mark``.
    """
    if len(name) > 100 or _MARK.fullmatch(name) is None or len(data) > MAX_MARK_BYTES:
        raise InvalidValue(
            f"expected the name of a mark and at most {MAX_MARK_BYTES:,} bytes, got {name!r:.120} and {len(data):,}"
        )


@contextmanager
def _reading(digest: Digest) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailure(f"expected to read {digest}, the store failed: {error.strerror}") from error


def _check(digest: Digest, found: Digest) -> None:
    if found != digest:
        raise DamagedBlob(
            f"expected the bytes of {digest}, found bytes of {found}; "
            "restore the blob from a copy, or publish its version again"
        )
