"""The runtime folder of a server: a temporary folder of its own, which is always removed.

A server that is killed cannot remove its folder. So the processes that use a folder hold a lock on a file in it,
which the kernel releases with the last of them. The next server that starts removes the folders without a locked
file.
"""

import fcntl
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

_PREFIX = "cultivar-serve-"
_LOCK = "owner.lock"


class RuntimeDir:
    """A new runtime folder; its creation removes those of servers that were killed.

    Args:
        parent: the folder in which to create it; None for the machine's temporary folder.

    Attributes:
        path: the folder.
        lock: descriptor of the locked file. Children that inherit it keep the folder in use as long as they live.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = parent or Path(tempfile.gettempdir())
        sweep(parent)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        # The name of the lock file marks a runtime folder, so the file gets it only when it is locked.
        draft = self.path / f"{_LOCK}.draft"
        self.lock = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        draft.rename(self.path / _LOCK)

    def remove(self) -> None:
        """Remove the folder with its contents, and release the lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock)


def sweep(parent: Path) -> None:
    """Remove this user's runtime folders that are no longer in use."""
    for path in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            _remove_if_left(path)


def _remove_if_left(path: Path) -> None:
    """Remove a runtime folder if its lock can be taken; the lock is held meanwhile, so that only one process removes.

    Links are not followed, as every user may write to the temporary folder.

    Raises:
        OSError: it is not a runtime folder, belongs to another user, or is in use.
    """
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(folder).st_uid != os.geteuid():
            return
        lock = os.open(_LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            if not stat.S_ISREG(os.fstat(lock).st_mode):
                return
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # If another process has removed the folder in between, the file has no name any more, and this raises.
            os.stat(_LOCK, dir_fd=folder, follow_symlinks=False)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)
    finally:
        os.close(folder)
