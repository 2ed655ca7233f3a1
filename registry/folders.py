"""Folders of files: which files are data, and which are skipped.

Datasets and offline commands share these rules. Hidden files and system files are not data. Links are
followed inside the named folder, and each folder is read once. A link is skipped and counted if it leaves the
folder, leads to a folder that is being read, or to something unreadable.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from registry.errors import DatasetError

BROKEN_LINK = "broken link"
LEAVING_LINK = "link that leaves the folder"
REPEATED_LINK = "link to a folder that is read already"
NO_FILE = "not a file"

_SYSTEM_NAMES = frozenset(
    {
        "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information",  # Windows
        "__macosx", "icon\r",  # macOS
        "@eadir", "#recycle", "lost+found",  # network storage, file systems
        "__pycache__",  # programs
    }
)  # fmt: skip


def hidden(name: str) -> bool:
    """Tell whether a file or folder belongs to an operating system or program and is not data.

    These are names that begin with a dot (``.DS_Store``, ``._picture.jpg``, ``.ipynb_checkpoints``),
    ``Thumbs.db``, ``desktop.ini``, ``__MACOSX`` and their like.
    """
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def subfolders(folder: Path) -> list[Path]:
    """Return the visible subfolders of a folder, including links, sorted.

    Raises:
        DatasetError: the folder cannot be read.
    """
    return [folder / entry.name for entry in _visible(folder) if _is_folder(entry)]


def entries(folder: Path, root: Path, passed: Counter[str]) -> list[Path]:
    """Return the files and folders directly in a folder, sorted.

    Args:
        folder: the folder.
        root: the folder that the user named; links may lead anywhere inside it.
        passed: counts skipped entries by reason.

    Raises:
        DatasetError: the folder cannot be read, or it contains a link to a folder outside the root, whose
            content would be missing.
    """
    found: list[Path] = []
    for entry in _visible(folder):
        path = folder / entry.name
        fault = _fault(path, root) if entry.is_symlink() else _odd(entry)
        if fault == LEAVING_LINK and entry.is_dir():
            raise DatasetError(
                f"{path}: expected a folder, this is a link that leaves {root}; copy the folder, or name the one "
                "that holds both"
            )
        if fault:
            passed[fault] += 1
        else:
            found.append(path)
    return found


def files(folder: Path, root: Path, passed: Counter[str]) -> Iterator[Path]:
    """Yield every file in a folder at any depth: first the folder's own files, sorted, then those of its subfolders.

    Args:
        folder: the folder.
        root: the folder that the user named; links may lead anywhere inside it.
        passed: counts skipped entries by reason.

    Raises:
        DatasetError: a folder cannot be read.
    """
    read = [folder.resolve()]
    pending = [folder]
    while pending:
        base = pending.pop()
        deeper: list[Path] = []
        for entry in _visible(base):
            path = base / entry.name
            fault = _fault(path, root) if entry.is_symlink() else _odd(entry)
            if not fault and entry.is_symlink() and entry.is_dir():
                real = path.resolve()
                # A subfolder of a folder that is being read is read at its own place; a parent of it contains
                # this link.
                if any(real.is_relative_to(each) or each.is_relative_to(real) for each in read):
                    fault = REPEATED_LINK
                else:
                    read.append(real)
            if fault:
                passed[fault] += 1
            elif entry.is_dir():
                deeper.append(path)
            else:
                yield path
        pending += reversed(deeper)


def _fault(link: Path, root: Path) -> str:
    """Return the reason for not following a link, or nothing."""
    try:
        real = link.resolve(strict=True)
    except (OSError, RuntimeError):  # nothing is there, or links that lead in a circle
        return BROKEN_LINK
    if not real.is_relative_to(root.resolve()):
        return LEAVING_LINK
    return "" if real.is_dir() or real.is_file() else NO_FILE


def _odd(entry: os.DirEntry[str]) -> str:
    return "" if entry.is_file() or entry.is_dir() else NO_FILE


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links that lead in a circle
        return False


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return sorted((entry for entry in found if not hidden(entry.name)), key=lambda entry: entry.name)
    except OSError as error:
        raise DatasetError(f"{folder}: expected a folder that can be read; {error.strerror}") from error
