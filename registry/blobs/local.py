"""Blobs as files of one folder.

``sha256/5f/2c9a…`` holds a blob, read-only, under the digits of its digest; ``staging/`` what
is on its way in; ``registries/`` the marks. All lie on one filesystem, so that a rename is atomic.
"""

import contextlib
import errno
import os
import re
import secrets
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from registry.blobs.blobs import MAX_MARK_BYTES, Blobs, Staged, Stored, check_mark
from registry.digests import PREFIX, Digest
from registry.errors import DamagedBlob, InvalidDigest, MissingBlob, StorageFailure
from registry.locations import marks_of
from registry.quoting import quoted
from registry.steps import PUBLISHED, STAGED, SYNCED, VERIFIED, Announce, ignore

_READ_ONLY = 0o444
_PART = ".part"
_DEAD_S = 3600
"""Nobody takes that long to write a mark."""
_STAGED = re.compile(r"[0-9a-f]{64}\.[0-9a-z]+")


class LocalBlobs(Blobs):
    """Blobs as files of one folder, each written aside, synced, renamed into place and read back."""

    folder: Path

    def __init__(self, folder: Path, announce: Announce = ignore) -> None:
        self.folder = folder
        self._published = folder / "sha256"
        self._staging = folder / "staging"
        self._marks = folder / "registries"
        self._announce = announce
        for each in (self._published, self._staging):
            _make(each)

    def check_writable(self) -> None:
        """Check that a file can be made in the staging folder."""
        try:
            with tempfile.TemporaryFile(dir=self._staging):
                pass
        except OSError as error:
            raise StorageFailure(
                f"expected a blob store that can be written to at {self.folder}: {error.strerror}"
            ) from error

    def put(self, digest: Digest, data: bytes) -> None:
        """Store bytes under their digest; see ``Blobs.put``."""
        if (found := Digest.of(data)) != digest:
            raise DamagedBlob(f"expected bytes of {digest}, got bytes of {found}")
        with contextlib.suppress(MissingBlob, DamagedBlob):
            self.check(digest)
            return
        staged = self._staging / f"{digest.hex}.{secrets.token_hex(8)}"
        try:
            self._write(staged, data)
            place = self._place(digest)
            _make(place.parent)
            staged.replace(place)
            _sync(place.parent)
        except OSError as error:
            staged.unlink(missing_ok=True)
            raise StorageFailure(
                f"could not store {len(data):,} bytes under {self.folder}: {error.strerror}; make room there"
            ) from error
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        self._announce(PUBLISHED)
        self.check(digest)
        self._announce(VERIFIED)

    def _write(self, path: Path, data: bytes) -> None:
        # O_EXCL: nobody else's file, and no link that somebody laid there, is written through.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            self._announce(STAGED)
            file.flush()
            os.fchmod(file.fileno(), _READ_ONLY)
            os.fsync(file.fileno())
            self._announce(SYNCED)

    def size(self, digest: Digest) -> int | None:
        """Return how many bytes are stored under a digest, or None."""
        try:
            return self._place(digest).stat().st_size
        except FileNotFoundError:
            return None

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob for reading, unchecked."""
        try:
            return self._place(digest).open("rb")
        except FileNotFoundError as error:
            raise _missing(digest) from error

    def path(self, digest: Digest) -> Path:
        """Return a blob's own file, unchecked."""
        path = self._place(digest)
        if not path.is_file():
            raise _missing(digest)
        return path

    def delete(self, digest: Digest) -> None:
        """Take a blob's file away."""
        path = self._place(digest)
        try:
            path.unlink()
        except FileNotFoundError:
            return
        _sync(path.parent)

    def list(self) -> Iterator[Stored]:
        """Yield everything that is stored; files that are none of ours are passed over."""
        for path in self._published.glob("??/*"):
            with contextlib.suppress(FileNotFoundError, InvalidDigest):
                digest, status = Digest(f"{PREFIX}{path.parent.name}{path.name}"), path.stat()
                yield Stored(digest, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def staged(self) -> Iterator[Staged]:
        """Yield what is on its way in, or was left behind."""
        for path in self._staging.iterdir():
            if _STAGED.fullmatch(path.name) is None:
                continue
            with contextlib.suppress(FileNotFoundError):
                digest, status = Digest(PREFIX + path.stem), path.stat()
                modified = datetime.fromtimestamp(status.st_mtime, UTC)
                yield Staged(path.name, digest, status.st_size, modified)

    def discard(self, name: str) -> None:
        """Take away something staged."""
        if _STAGED.fullmatch(name) is None:
            raise MissingBlob(f"expected the name of something staged, got {quoted(name)}")
        (self._staging / name).unlink(missing_ok=True)

    def place(self) -> frozenset[str]:
        """Return what tells this folder from its copies."""
        try:
            return marks_of(self.folder)
        except OSError as error:
            raise StorageFailure(f"could not look at {self.folder}: {error.strerror}") from error

    def mark(self, name: str, data: bytes) -> None:
        """Store a mark: written aside, synced, renamed into place."""
        check_mark(name, data)
        part = self._marks / f"{name}.{secrets.token_hex(8)}{_PART}"
        try:
            _make(self._marks)
            self._sweep()
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._marks / name)
            _sync(self._marks)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise StorageFailure(f"could not write to {self._marks}: {error.strerror}") from error

    def _sweep(self) -> None:
        """Take away what writers of marks left that died."""
        for path in self._marks.glob(f"*{_PART}"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - _DEAD_S:
                    path.unlink()

    def marks(self) -> Mapping[str, bytes]:
        """Return every mark."""
        found: dict[str, bytes] = {}
        try:
            for path in self._marks.iterdir() if self._marks.is_dir() else ():
                if not path.name.endswith(_PART):
                    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                        found[path.name] = file.read(MAX_MARK_BYTES)
        except OSError as error:
            raise StorageFailure(f"could not read {self._marks}: {error.strerror}") from error
        return found

    def unmark(self, name: str) -> None:
        """Take a mark away."""
        check_mark(name)
        try:
            (self._marks / name).unlink(missing_ok=True)
            if self._marks.is_dir():
                _sync(self._marks)
        except OSError as error:
            raise StorageFailure(f"could not delete from {self._marks}: {error.strerror}") from error

    def _place(self, digest: Digest) -> Path:
        return self._published / digest.hex[:2] / digest.hex[2:]


def _missing(digest: Digest) -> MissingBlob:
    return MissingBlob(
        f"expected {digest} in the blob store, it is not there; store it, or restore it from a copy"
    )


def _make(folder: Path) -> None:
    """Make a folder that survives a power cut, with its parents."""
    if folder.is_dir():
        return
    _make(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Write a folder's entries to the disk: without it a rename may not survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:  # network filesystems that sync on their own refuse it for folders
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)
