"""Disk space that work will need, checked before it begins."""

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
        what: names them for a person: ``the version``.
        folder: where they go; it need not exist yet.
        bytes: about how many, at least 0.
    """

    what: str
    folder: Path
    bytes: int


def check_space(needs: Sequence[Need]) -> None:
    """Refuse work that the disks have no space for; needs on one filesystem are added up.

    Raises:
        StorageFailure: a filesystem has fewer free bytes than will be needed.
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
    """Return how many bytes an ordinary user may still write to a folder's filesystem."""
    return shutil.disk_usage(folder).free


def shown(count: int) -> str:
    """Return a number of bytes as people write it: ``1.2 GB``."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(each for each in (folder, *folder.absolute().parents) if each.exists())
