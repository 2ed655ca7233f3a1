"""Checks of free disk space before work begins."""

import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from registry.errors import StorageFailure


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that will be written into a folder.

    Attributes:
        what: their description in messages, such as ``the version``.
        folder: the folder; it need not exist yet.
        bytes: their approximate number, at least 0.
    """

    what: str
    folder: Path
    bytes: int


def check_space(needs: Sequence[Need]) -> None:
    """Check that the disks have enough free space; needs on one filesystem are added.

    Raises:
        StorageFailure: a filesystem has fewer free bytes than needed.
    """
    together: defaultdict[int, list[Need]] = defaultdict(list)
    for need in needs:
        together[_existing(need.folder).stat().st_dev].append(need)
    for group in together.values():
        folder = _existing(group[0].folder)
        needed, free = sum(need.bytes for need in group), free_bytes(folder)
        if needed > free:
            parts = ", ".join(f"{need.what} {shown(need.bytes)}" for need in group if need.bytes)
            raise StorageFailure(
                f"expected about {shown(needed)} of free disk space at {folder} ({parts}), found {shown(free)}; "
                "free some, or name another folder with --home"
            )


def free_bytes(folder: Path) -> int:
    """Return the number of bytes that an unprivileged user can still write to a folder's filesystem."""
    return shutil.disk_usage(folder).free


def shown(count: int) -> str:
    """Return a number of bytes in readable form, such as ``1.2 GB``."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(each for each in (folder, *folder.absolute().parents) if each.exists())
