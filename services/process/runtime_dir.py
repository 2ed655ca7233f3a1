"""A server's home: a temporary folder that is its own, and is never left behind.

A server that is killed cannot remove its home. So the processes that use one hold a lock on a file in
it, which the kernel takes back with the last of them, however it ends; and the next server that
starts removes the homes whose locks nobody holds.
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
    """A new home; making it removes the homes that were left behind.

    Args:
        parent: the folder that homes are made in; None for the machine's temporary one.

    Attributes:
        path: the folder.
        lock: number of the locked file. Children that inherit it own the home as long as they live.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = parent or Path(tempfile.gettempdir())
        sweep(parent)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        # A folder is known as a home by the lock's name, which the file gets when it is locked.
        draft = self.path / f"{_LOCK}.draft"
        self.lock = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        draft.rename(self.path / _LOCK)

    def remove(self) -> None:
        """Remove it with all that is in it, and let go of the lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.lock)


def sweep(parent: Path) -> None:
    """Remove the homes in a folder that are this user's and nobody's any more."""
    for path in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            _remove_if_left(path)


def _remove_if_left(path: Path) -> None:
    """Remove a home whose lock can be taken, and hold it meanwhile, so that one process alone removes.

    Links are not followed: everybody may write into the temporary folder.

    Raises:
        OSError: it is no home, somebody else's, or owned.
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
            # Another one may have removed it in between: then the file has no name any more, and this raises.
            os.stat(_LOCK, dir_fd=folder, follow_symlinks=False)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)
    finally:
        os.close(folder)
