"""The interface of a blob store: immutable bytes under their digests.

A store knows digests and bytes, but no versions or leases: the catalog decides who may delete what, and when.
A name from a client never becomes a path.
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
    """A blob in the store.

    Attributes:
        digest: its digest.
        bytes: its size.
        modified: when it was stored, in UTC, by the store's clock.
    """

    digest: Digest
    bytes: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class Staged:
    """An upload in progress, or one abandoned by a writer that died.

    Attributes:
        name: identifies the upload for ``discard``.
        digest: the digest under which the bytes will be stored.
        bytes: bytes written so far.
        modified: time of the last write, in UTC, by the store's clock.
    """

    name: str
    digest: Digest
    bytes: int
    modified: datetime


class Blobs(ABC):
    """Immutable bytes under their digests. Safe to use from several threads and processes.

    Every implementation passes the test suite ``tests.contracts.blobs.BlobsContract``.

    Attributes:
        folder: the folder of the bytes if they are local files, else None.
    """

    folder: Path | None = None

    @abstractmethod
    def check_writable(self) -> None:
        """Check that bytes can be stored, by writing a temporary file.

        Raises:
            ReadOnlyRegistry: this account may not.
            StorageFailure: they cannot.
        """

    @abstractmethod
    def put(self, digest: Digest, data: bytes) -> None:
        """Store bytes under their digest durably and atomically, and read them back.

        Existing intact bytes are kept; damaged ones are replaced.

        Raises:
            DamagedBlob: the bytes have another digest, or were not read back as written.
            StorageFailure: the store failed, for example because the disk is full; nothing is visible then.
        """

    @abstractmethod
    def size(self, digest: Digest) -> int | None:
        """Return the size of a blob in bytes, or None if it is not stored."""

    @abstractmethod
    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob for reading from its beginning. The bytes are not checked.

        Raises:
            MissingBlob: there is none.
        """

    @abstractmethod
    def path(self, digest: Digest) -> Path:
        """Return a local read-only file with a blob's bytes. They are not checked.

        Raises:
            MissingBlob: there is none.
        """

    @abstractmethod
    def delete(self, digest: Digest) -> None:
        """Delete a blob; a missing blob is not an error."""

    @abstractmethod
    def list(self) -> Iterator[Stored]:
        """Yield all blobs in no particular order; concurrent changes may be missed."""

    @abstractmethod
    def staged(self) -> Iterator[Staged]:
        """Yield uploads in progress and abandoned ones."""

    @abstractmethod
    def discard(self, name: str) -> None:
        """Delete a staged upload; a missing one is not an error."""

    # Marks: small objects beside the blobs, which record the users of a store.

    @abstractmethod
    def place(self) -> frozenset[str]:
        """Return the marks that distinguish this store from its copies; stores that share a mark are the same."""

    @abstractmethod
    def mark(self, name: str, data: bytes) -> None:
        """Store a mark durably and atomically; it replaces a mark of the same name.

        Args:
            name: 1 to 100 lower-case letters and digits, with single ``.`` or ``-`` between them.
            data: up to 64 KiB.

        Raises:
            InvalidValue: the name or the data are invalid.
            StorageFailure: the store failed, or may not be written to.
        """

    @abstractmethod
    def marks(self) -> Mapping[str, bytes]:
        """Return every mark by name.

        Raises:
            StorageFailure: the store cannot read them.
        """

    @abstractmethod
    def unmark(self, name: str) -> None:
        """Delete a mark; a missing mark is not an error.

        Raises:
            StorageFailure: the store failed, or may not be written to.
        """

    def read(self, digest: Digest) -> bytes:
        """Return a blob's bytes after checking their digest.

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
        """Read a blob in chunks and compare its digest.

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
        InvalidValue: they violate the rules of ``Blobs.mark``.
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
