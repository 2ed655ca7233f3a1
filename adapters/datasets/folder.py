"""A folder of class folders, optionally inside a folder for each split."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.datasets.dataset import TEST, TRAIN, VALIDATION
from adapters.datasets.labels import clean
from adapters.datasets.listing import MAX_ROWS, DatasetProvider, ListedRow, Listing
from adapters.datasets.table import IMAGE
from registry.errors import DatasetError, WrongModality
from registry.folders import entries, files, subfolders
from registry.recipe.image import SUFFIXES

SPLIT_WORDS: Mapping[str, str] = {
    "train": TRAIN,
    "training": TRAIN,
    "trainset": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "dev": VALIDATION,
    "valset": VALIDATION,
    "devset": VALIDATION,
    "test": TEST,
    "testing": TEST,
    "testset": TEST,
}
"""Words for splits, case-insensitive."""

_FILLERS = frozenset(
    {"set", "data", "dataset", "split", "images", "image", "imgs", "pictures", "texts", "files"}
)
"""Words that may accompany them: ``training_set``, ``test-images``."""

_WORDS = re.compile(r"[^\W\d_]+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")

TEXT_SUFFIXES = frozenset({".txt", ".text", ".md", ".csv", ".tsv", ".json", ".jsonl", ".parquet"})
"""Suffixes of text files, used if pictures are expected."""

NOT_IN_A_CLASS = "not in a class folder"


@dataclass(frozen=True, slots=True)
class FolderProvider(DatasetProvider):
    """Files with a picture or a text each; their class folder is the label, at any depth below it.

    Top-level folders are splits if they have such a name (``Train``, ``val``, ``testing``, ``training_set``);
    then they contain the class folders. Splits beside other folders, two folders for one split, splits
    without class folders and splits inside classes are errors. A single folder of files with the name of a
    split among other folders is a class, and is counted as a remark.

    Attributes:
        path: the folder.
        modality: ``image`` or ``text``: the required content of the files.
    """

    path: Path
    modality: str = IMAGE

    def listing(self, labelled: bool) -> Listing:
        """List the files without reading them.

        Raises:
            DatasetError: there is no class folder, one is empty, splits and other folders are mixed, classes
                hold splits, or a folder cannot be read.
            WrongModality: most files have a suffix of the other modality.
        """
        excluded: Counter[str] = Counter()
        remarks: Counter[str] = Counter()
        rows: list[ListedRow] = []
        for folder, split in self._splits(labelled, excluded, remarks):
            rows += (
                self._labelled(folder, split, excluded) if labelled else self._all(folder, split, excluded)
            )
        if not rows:
            raise DatasetError(f"{self.path}: expected folders of files, one for each class; found none")
        self._check_modality([row.content for row in rows if isinstance(row.content, Path)])
        return Listing(tuple(rows), dict(excluded), dict(remarks))

    def _splits(
        self, labelled: bool, excluded: Counter[str], remarks: Counter[str]
    ) -> list[tuple[Path, str | None]]:
        """Return the folders that contain class folders, each with its split; without splits the folder itself."""
        passed: Counter[str] = Counter()
        within = entries(self.path, self.path, passed)
        folders = {entry.name: entry for entry in within if entry.is_dir()}
        splits = {name: split for name in folders if (split := split_of(name)) is not None}
        nested = {name for name, folder in folders.items() if subfolders(folder)}
        alone = bool(splits) and splits.keys() == folders.keys()
        if alone or len(set(splits.values())) > 1 or nested & splits.keys():
            self._check_splits(folders, splits, nested, labelled)
            excluded.update(passed)
            if beside := len(within) - len(folders):
                excluded[NOT_IN_A_CLASS] += beside
            return [(folders[name], split) for name, split in sorted(splits.items())]
        if len(_spoken(nested)) > 1:
            self._refuse_mixture(folders, sorted(name for name in nested if _spoken([name])))
        if labelled and len(folders) == 1 and nested:
            (only,) = folders.values()
            if len(subfolders(only)) == len(entries(only, self.path, Counter())):
                raise DatasetError(
                    f"{self.path}: expected one folder for each class, found {only.name!r} alone, which holds "
                    f"folders itself; name {only}"
                )
        if labelled:
            self._check_classes(folders, nested)
        for name in splits if labelled else ():
            remarks[f"the folder {name!r} is read as a class, because no other is called like a split"] += 1
        return [(self.path, None)]

    def _check_splits(
        self, folders: Mapping[str, Path], splits: Mapping[str, str], nested: set[str], labelled: bool
    ) -> None:
        others = sorted(folders.keys() - splits.keys())
        if others:
            self._refuse_mixture(folders, sorted(splits))
        for split in set(splits.values()):
            same = sorted(name for name in splits if splits[name] == split)
            if len(same) > 1:
                raise DatasetError(
                    f"{self.path}: expected one folder for the {split} split, found {_named(same)}; join them"
                )
        if labelled and (bare := sorted(splits.keys() - nested)):
            raise DatasetError(
                f"{self.path}: expected class folders inside {_named(sorted(splits))}, there are none in "
                f"{_named(bare)}; put the files in class folders, or take the folder away"
            )

    def _check_classes(self, folders: Mapping[str, Path], nested: set[str]) -> None:
        """Raise an error if classes contain splits; as files of the class the splits would be mixed."""
        for name in sorted(nested):
            splits = {
                inner.name: split
                for inner in subfolders(folders[name])
                if (split := split_of(inner.name)) is not None
            }
            if len(set(splits.values())) > 1:
                raise DatasetError(
                    f"{self.path}: expected folders of splits above those of classes, found {_named(sorted(splits))} "
                    f"inside {name!r}; put {Path(min(splits)) / name} in the place of {Path(name) / min(splits)}, "
                    "or list the files in a table"
                )

    def _check_modality(self, found: Sequence[Path]) -> None:
        """Raise an error if most files have a suffix of another modality, before any is read."""
        foreign, they_are, it_takes = (
            (TEXT_SUFFIXES, "texts", "pictures")
            if self.modality == IMAGE
            else (SUFFIXES, "pictures", "texts")
        )
        theirs = [file for file in found if file.suffix.lower() in foreign]
        if 2 * len(theirs) > len(found):
            raise WrongModality(
                f"{self.path}: expected {it_takes}, which the source takes, and found {they_are} "
                f"({self._origin(theirs[0])}, {len(theirs):,} of {len(found):,} files); take a source of {they_are}, "
                "or other data"
            )

    def _refuse_mixture(self, folders: Mapping[str, Path], splits: Sequence[str]) -> None:
        others = sorted(folders.keys() - set(splits))
        beside = f", and {_named(others)} beside them" if others else ""
        raise DatasetError(
            f"{self.path}: expected folders of splits (train, val, test) or of classes, found {_named(splits)}, "
            f"which are called like splits{beside}; rename or take away those that do not belong, or list the "
            "files in a table"
        )

    def _labelled(self, folder: Path, split: str | None, excluded: Counter[str]) -> Iterator[ListedRow]:
        for entry in entries(folder, self.path, excluded):
            if not entry.is_dir():
                excluded[NOT_IN_A_CLASS] += 1
                continue
            try:
                label = clean(entry.name)
            except ValueError as error:
                raise DatasetError(
                    f"{entry}: a class folder's name is its label; this gives {error}"
                ) from error
            passed: Counter[str] = Counter()
            found = list(self._files(entry, passed))
            if not found and split != TEST:
                why = "".join(f" ({reason}: {count})" for reason, count in sorted(passed.items()))
                raise DatasetError(
                    f"{entry}: the class {label!r} has no files{why}; add some, or remove the folder"
                )
            excluded.update(passed)
            yield from (ListedRow(file, label, None, self._origin(file), split) for file in found)

    def _all(self, folder: Path, split: str | None, excluded: Counter[str]) -> Iterator[ListedRow]:
        return (
            ListedRow(file, None, None, self._origin(file), split) for file in self._files(folder, excluded)
        )

    def _origin(self, file: Path) -> str:
        return str(Path(self.path.name) / file.relative_to(self.path))

    def _files(self, folder: Path, excluded: Counter[str]) -> Iterator[Path]:
        for count, file in enumerate(files(folder, self.path, excluded), 1):
            if count > MAX_ROWS:
                raise DatasetError(f"{self.path}: a dataset has at most {MAX_ROWS:,} items")
            yield file


def split_of(name: str) -> str | None:
    """Return the split that a folder's name means, or None: a word for it, optionally with words like ``set``."""
    words = [word for word in _words(name) if word not in _FILLERS]
    return SPLIT_WORDS.get(words[0]) if len(words) == 1 else None


def _spoken(names: Sequence[str] | set[str]) -> set[str]:
    """Return the splits mentioned anywhere in some names, such as in ``seg_train``."""
    return {SPLIT_WORDS[word] for name in names for word in _words(name) if word in SPLIT_WORDS}


def _words(name: str) -> list[str]:
    return _WORDS.findall(_HUMP.sub(" ", name).casefold())


def _named(names: Sequence[str]) -> str:
    shown = [repr(name) for name in names[:8]]
    if len(names) > 8:
        return f"{', '.join(shown)} and {len(names) - 8} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
