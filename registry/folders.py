"""Folders of files: what in them counts as data, and what is passed over.

One rule for whoever reads a folder: datasets, offline commands, indexes. Hidden files and those that
systems leave behind are no data. Links are followed inside the folder that was named, each folder
once; a link that leaves it, that leads back to where the walk is already, or to nothing that can be
read is passed over and counted.
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
    """Tell whether a file or folder is a system's own and no data.

    These are names that begin with a dot (``.DS_Store``, ``._picture.jpg``, ``.ipynb_checkpoints``),
    ``Thumbs.db``, ``desktop.ini``, ``__MACOSX`` and their like.
    """
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def subfolders(folder: Path) -> list[Path]:
    """Return the folders directly in a folder that are not hidden, linked ones too, sorted.

    Raises:
        DatasetError: the folder cannot be read.
    """
    return [folder / entry.name for entry in _visible(folder) if _is_folder(entry)]


def entries(folder: Path, root: Path, passed: Counter[str]) -> list[Path]:
    """Return the files and folders directly in a folder, sorted.

    Args:
        folder: the folder.
        root: the folder that was named: links may lead anywhere inside.
        passed: counts what is passed over, by reason.

    Raises:
        DatasetError: the folder cannot be read, or a folder in it is a link that leaves the root: its
            whole content would be missing.
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
    """Yield every file in a folder, at any depth: those of a folder first, sorted, then those of its folders.

    Args:
        folder: where to look.
        root: the folder that was named: links may lead anywhere inside.
        passed: counts what is passed over, by reason.

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
                # What is below a folder that is read is read in its own place; one above it holds this link.
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
    """Return why a link is not followed, or nothing."""
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
