"""Who may read and write what a registry keeps: the modes of its files and folders, whatever the umask.

What is made anew is its owner's alone, or its group's where the registry is shared; what is put into a folder that is
there already follows that folder, whose mode nobody changes.
"""

import contextlib
import os
import stat
from pathlib import Path

PRIVATE, GROUP = 0o700, 0o770
_FILE, _READ_ONLY = 0o666, 0o444


def new_folder(folder: Path, mode: int) -> None:
    """Make a folder with a mode, and those above that are missing.

    A folder that is there stays as it is. What a new one inherits from the folder above (setgid) it keeps.
    """
    if not folder.parent.is_dir():
        new_folder(folder.parent, mode)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(0o700)
        folder.chmod(stat.S_IMODE(folder.stat().st_mode) & 0o7000 | mode)


def new_file(path: Path, mode: int) -> None:
    """Make an empty file with a mode; one that is there stays as it is."""
    with contextlib.suppress(FileExistsError):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(handle, mode)
        finally:
            os.close(handle)


def folder_mode(shared: bool) -> int:
    """Return the mode of the folders of a new registry."""
    return GROUP if shared else PRIVATE


def mode_of(folder: Path) -> int:
    """Return the mode of a folder, which new folders in it get too."""
    return stat.S_IMODE(folder.stat().st_mode) & 0o777


def mode_below(folder: Path) -> int:
    """Return the mode of a new folder that belongs below another, which may not be there yet: never anybody's."""
    return PRIVATE | mode_of(folder) & GROUP if folder.is_dir() else PRIVATE


def file_mode(folder: int) -> int:
    """Return the mode of files in a folder of a mode."""
    return folder & _FILE


def read_only_mode(folder: int) -> int:
    """Return the mode of files in a folder of a mode that nobody may write to again."""
    return folder & _READ_ONLY


def may_write(path: Path) -> bool:
    """Tell whether this process may write to a file, or into a folder."""
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
