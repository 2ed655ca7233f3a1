"""A folder of class folders, with or without train, val and test inside."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adapters.datasets.dataset import TEST, TRAIN, VALIDATION
from adapters.datasets.labels import clean
from adapters.datasets.listing import MAX_ROWS, Listing, Provider, Row, hidden
from registry.errors import DatasetError

PART_FOLDERS = {
    "train": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "test": TEST,
}
NOT_IN_A_CLASS = "not in a class folder"
BROKEN_LINK = "broken link"


@dataclass(frozen=True, slots=True)
class Folder(Provider):
    """Files, a picture or a text each, whose label is the folder that they are in, at any depth below it.

    The top folders are parts where one of them is ``train``, has folders inside, and the others
    are ``val`` (``valid``, ``validation``) or ``test``. Links are followed, each folder once.
    """

    path: Path

    def listing(self, labelled: bool) -> Listing:
        """List the files, without looking into them.

        Raises:
            DatasetError: there is no class folder, one is empty, or the folder cannot be read.
        """
        excluded: Counter[str] = Counter()
        rows: list[Row] = []
        for folder, part in self._parts():
            rows += self._labelled(folder, part, excluded) if labelled else self._all(folder, part, excluded)
        if not rows:
            raise DatasetError(f"{self.path}: expected folders of files, one for each class; found none")
        return Listing(tuple(rows), dict(excluded))

    def _parts(self) -> list[tuple[Path, str | None]]:
        folders = {entry.name: entry for entry in _entries(self.path) if entry.is_dir()}
        divided = (
            "train" in folders
            and set(folders) <= set(PART_FOLDERS)
            and any(entry.is_dir() for entry in _entries(folders["train"]))
        )
        if not divided:
            return [(self.path, None)]
        return [(folder, PART_FOLDERS[name]) for name, folder in sorted(folders.items())]

    def _labelled(self, folder: Path, part: str | None, excluded: Counter[str]) -> Iterator[Row]:
        for entry in _entries(folder):
            if not entry.is_dir():
                excluded[NOT_IN_A_CLASS] += 1
                continue
            try:
                label = clean(entry.name)
            except ValueError as error:
                raise DatasetError(
                    f"{entry}: a class folder's name is its label; this gives {error}"
                ) from error
            files = list(self._files(entry, excluded))
            if not files and part != TEST:
                raise DatasetError(
                    f"{entry}: the class {label!r} has no files; add some, or remove the folder"
                )
            yield from (Row(file, label, None, self._origin(file), part) for file in files)

    def _all(self, folder: Path, part: str | None, excluded: Counter[str]) -> Iterator[Row]:
        return (Row(file, None, None, self._origin(file), part) for file in self._files(folder, excluded))

    def _origin(self, file: Path) -> str:
        return str(Path(self.path.name) / file.relative_to(self.path))

    def _files(self, folder: Path, excluded: Counter[str]) -> Iterator[Path]:
        seen: set[tuple[int, int]] = set()
        count = 0
        for base, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
            here = Path(base).stat()
            # A link to a folder above would be walked for ever.
            folders[:] = [] if (here.st_dev, here.st_ino) in seen else sorted(filter(_shown, folders))
            if (here.st_dev, here.st_ino) in seen:
                continue
            seen.add((here.st_dev, here.st_ino))
            for name in sorted(filter(_shown, names)):
                file = Path(base) / name
                if not file.is_file():
                    excluded[BROKEN_LINK if file.is_symlink() else "not a file"] += 1
                    continue
                count += 1
                if count > MAX_ROWS:
                    raise DatasetError(f"{self.path}: a dataset has at most {MAX_ROWS:,} items")
                yield file


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if not hidden(entry.name))
    except OSError as error:
        _refuse(error)
        raise


def _shown(name: str) -> bool:
    return not hidden(name)


def _refuse(error: OSError) -> None:
    raise DatasetError(f"{error.filename}: expected a folder that can be read; {error.strerror}") from error
