"""The modes of a registry's files and folders, independent of the umask.

New registries are private to their owner, or to the group if the registry is shared. New entries of an
existing folder follow that folder, whose mode is never changed.
"""

import contextlib
import os
import stat
from pathlib import Path

PRIVATE, GROUP = 0o700, 0o770
_FILE, _READ_ONLY = 0o666, 0o444


def new_folder(folder: Path, mode: int) -> None:
    """Create a folder with a mode, and its missing parents.

    An existing folder is not changed. A new one keeps what it inherits from its parent (setgid).
    """
    if not folder.parent.is_dir():
        new_folder(folder.parent, mode)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(0o700)
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) & 0o7000 | mode)


def new_file(path: Path, mode: int) -> None:
    """Create an empty file with a mode; an existing file is not changed."""
    with contextlib.suppress(FileExistsError):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(handle, mode)
        finally:
            os.close(handle)


def folder_mode(shared: bool) -> int:
    """Return the folder mode of a new registry."""
    return GROUP if shared else PRIVATE


def mode_of(folder: Path) -> int:
    """Return a folder's mode, which its new subfolders get too."""
    return stat.S_IMODE(folder.stat().st_mode) & 0o777


def mode_below(folder: Path) -> int:
    """Return the mode of a new folder below another one, which may not exist yet; others never get access."""
    return PRIVATE | mode_of(folder) & GROUP if folder.is_dir() else PRIVATE


def file_mode(folder: int) -> int:
    """Return the mode of files in a folder with a given mode."""
    return folder & _FILE


def read_only_mode(folder: int) -> int:
    """Return the mode of read-only files in a folder with a given mode."""
    return folder & _READ_ONLY


def may_write(path: Path) -> bool:
    """Tell whether this process may write to a file, or into a folder."""
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
