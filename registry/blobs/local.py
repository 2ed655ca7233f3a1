"""A blob store in a folder.

``sha256/5f/2c9a…`` is a read-only file with a blob, named by its digest. ``staging/`` holds uploads in
progress, ``registries/`` the marks. All are on one filesystem, so that a rename is atomic. Files and folders
get the mode of the folder (``registry.modes``), except that blobs are not writable.
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
from registry.errors import DamagedBlob, InvalidDigest, MissingBlob, ReadOnlyRegistry, StorageFailure
from registry.locations import marks_of
from registry.modes import file_mode, folder_mode, mode_of, new_folder, read_only_mode
from registry.quoting import quoted
from registry.steps import PUBLISHED, STAGED, SYNCED, VERIFIED, Announce, ignore

_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_WRITER = "use an account that may write there"
_PART = ".part"
_DEAD_S = 3600
"""Writing a mark never takes this long."""
_STAGED = re.compile(r"[0-9a-f]{64}\.[0-9a-z]+")


class LocalBlobs(Blobs):
    """A blob store in a folder. Each blob is written to staging, synced, renamed into place and read back.

    Args:
        folder: the store's folder; created if missing.
        announce: called with each step of storing a blob.
        shared: whether the group may use a new folder.

    Raises:
        OSError: the folder can be neither created nor used.
    """

    folder: Path

    def __init__(self, folder: Path, announce: Announce = ignore, *, shared: bool = False) -> None:
        self.folder = folder
        self._published = folder / "sha256"
        self._staging = folder / "staging"
        self._marks = folder / "registries"
        self._announce = announce
        if not folder.is_dir():
            _make(folder, folder_mode(shared))
        for each in (self._published, self._staging, self._marks):
            with _unless_forbidden():
                self._make(each)

    def _make(self, folder: Path) -> None:
        _make(folder, mode_of(self.folder))

    def check_writable(self) -> None:
        """Check that a file can be created in the staging folder."""
        try:
            with tempfile.TemporaryFile(dir=self._staging):
                pass
        except OSError as error:
            kind = ReadOnlyRegistry if error.errno in _FORBIDDEN else StorageFailure
            raise kind(
                f"expected a blob store that can be written to at {self.folder}: {error.strerror}; {_WRITER}"
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
            self._make(place.parent)
            staged.replace(place)
            _sync(place.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                staged.unlink(missing_ok=True)
            raise self._failure(f"store {len(data):,} bytes under {self.folder}", error) from error
        except BaseException:
            staged.unlink(missing_ok=True)
            raise
        self._announce(PUBLISHED)
        self.check(digest)
        self._announce(VERIFIED)

    def _write(self, path: Path, data: bytes) -> None:
        # O_EXCL: never write to an existing file or through a link.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            self._announce(STAGED)
            file.flush()
            os.fchmod(file.fileno(), read_only_mode(mode_of(self.folder)))
            os.fsync(file.fileno())
            self._announce(SYNCED)

    def size(self, digest: Digest) -> int | None:
        """Return the size of a blob in bytes, or None."""
        try:
            return self._place(digest).stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._failure(f"look for {digest} under {self.folder}", error) from error

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob for reading without checking it."""
        try:
            return self._place(digest).open("rb")
        except FileNotFoundError as error:
            raise _missing(digest) from error
        except OSError as error:
            raise self._failure(f"read {digest} under {self.folder}", error) from error

    def path(self, digest: Digest) -> Path:
        """Return a blob's file without checking it."""
        if self.size(digest) is None:
            raise _missing(digest)
        return self._place(digest)

    def delete(self, digest: Digest) -> None:
        """Delete a blob's file."""
        path = self._place(digest)
        try:
            path.unlink()
            _sync(path.parent)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._failure(f"delete {digest} under {self.folder}", error) from error

    def list(self) -> Iterator[Stored]:
        """Yield all stored blobs; foreign files are skipped."""
        for path in self._published.glob("??/*"):
            with contextlib.suppress(FileNotFoundError, InvalidDigest):
                digest, status = Digest(f"{PREFIX}{path.parent.name}{path.name}"), path.stat()
                yield Stored(digest, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))

    def staged(self) -> Iterator[Staged]:
        """Yield uploads in progress and abandoned ones."""
        for path in self._staging.iterdir() if self._staging.is_dir() else ():
            if _STAGED.fullmatch(path.name) is None:
                continue
            with contextlib.suppress(FileNotFoundError):
                digest, status = Digest(PREFIX + path.stem), path.stat()
                modified = datetime.fromtimestamp(status.st_mtime, UTC)
                yield Staged(path.name, digest, status.st_size, modified)

    def discard(self, name: str) -> None:
        """Delete a staged upload."""
        if _STAGED.fullmatch(name) is None:
            raise MissingBlob(f"expected the name of something staged, got {quoted(name)}")
        try:
            (self._staging / name).unlink(missing_ok=True)
        except OSError as error:
            raise self._failure(f"delete {name} under {self._staging}", error) from error

    @staticmethod
    def _failure(what: str, error: OSError) -> StorageFailure:
        """Return the error for a failed system call, with a remedy."""
        if error.errno in _FORBIDDEN:
            return ReadOnlyRegistry(f"could not {what}: {error.strerror}; {_WRITER}")
        return StorageFailure(
            f"could not {what}: {error.strerror}; free some space there, or repair the disk"
        )

    def place(self) -> frozenset[str]:
        """Return the marks that distinguish this folder from its copies."""
        try:
            return marks_of(self.folder)
        except OSError as error:
            raise self._failure(f"read {self.folder}", error) from error

    def mark(self, name: str, data: bytes) -> None:
        """Store a mark: write it to a temporary file, sync, and rename into place."""
        check_mark(name, data)
        part = self._marks / f"{name}.{secrets.token_hex(8)}{_PART}"
        try:
            self._make(self._marks)
            self._sweep()
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                os.fchmod(file.fileno(), file_mode(mode_of(self.folder)))
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._marks / name)
            _sync(self._marks)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise self._failure(f"write to {self._marks}", error) from error

    def _sweep(self) -> None:
        """Delete leftovers of dead writers of marks."""
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
            raise self._failure(f"read {self._marks}", error) from error
        return found

    def unmark(self, name: str) -> None:
        """Delete a mark."""
        check_mark(name)
        try:
            (self._marks / name).unlink(missing_ok=True)
            if self._marks.is_dir():
                _sync(self._marks)
        except OSError as error:
            raise self._failure(f"delete from {self._marks}", error) from error

    def _place(self, digest: Digest) -> Path:
        return self._published / digest.hex[:2] / digest.hex[2:]


def _missing(digest: Digest) -> MissingBlob:
    return MissingBlob(
        f"expected {digest} in the blob store, it is not there; store it, or restore it from a copy"
    )


@contextlib.contextmanager
def _unless_forbidden() -> Iterator[None]:
    """Ignore missing write permission: existing blobs can still be read."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FORBIDDEN:
            raise


def _make(folder: Path, mode: int) -> None:
    """Create a folder and its parents durably, so that they survive a power cut."""
    if folder.is_dir():
        return
    if not folder.parent.is_dir():
        _make(folder.parent, mode)
    new_folder(folder, mode)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    """Sync a folder's entries to disk; without it a rename may not survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:  # network filesystems that sync on their own refuse it for folders
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(handle)
