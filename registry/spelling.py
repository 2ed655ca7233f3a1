"""Unicode spellings of one name: a file's name on disk and in a table, and labels that look alike."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from registry.errors import DatasetError

_FLAG = re.compile("\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]+\U000e007f")
"""An emoji tag sequence (Unicode Technical Standard 51): a black flag, the tags of a region, the end."""
_SHOWN_TAGS = {0xE0000 + letter: letter for letter in (*range(0x30, 0x3A), *range(0x61, 0x7B))}


def composed(text: str) -> str:
    """Return a text in Unicode's composed form (NFC): macOS stores names decomposed, tables hold them composed."""
    return unicodedata.normalize("NFC", text)


class FileNames:
    """Finds files whose names on disk may have another Unicode composition.

    A folder is listed, once, if a name is not found literally.
    """

    def __init__(self) -> None:
        self._listed: dict[Path, dict[str, list[str]]] = {}

    def find(self, folder: Path, name: str) -> Path | None:
        """Return the file with this name, an absolute path or one relative to a folder, or None if there is none.

        Raises:
            DatasetError: the names of two files differ from the given one only in their composition.
        """
        path = folder / name
        if _is_file(path):
            return path
        found = Path(path.anchor) if path.anchor else Path()
        for part in path.relative_to(found).parts:
            if part == ".." or _exists(found / part):
                found /= part
                continue
            same = self._names(found).get(composed(part), [])
            if len(same) > 1:
                raise DatasetError(
                    f"{found}: expected one file called {part!r}, found {len(same)} whose names differ in Unicode's "
                    "composition alone; rename one"
                )
            if not same:
                return None
            found /= same[0]
        return found if _is_file(found) else None

    def _names(self, folder: Path) -> dict[str, list[str]]:
        if folder not in self._listed:
            names: dict[str, list[str]] = {}
            try:
                for entry in folder.iterdir():
                    names.setdefault(composed(entry.name), []).append(entry.name)
            except OSError:
                names = {}
            self._listed[folder] = names
        return self._listed[folder]


def _is_file(path: Path) -> bool:
    return _exists(path) and path.is_file()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long
        return False


def appearance(text: str) -> str:
    """Return the visible form of a text: without invisible joiners, marks and variants, and with equal spaces.

    Removed are Unicode's format characters (category Cf: zero-width joiner and space, soft hyphen, direction marks)
    and variation selectors; runs of any spaces count as one. The tags of a flag show: they tell England's from
    Scotland's.
    """
    kept = _FLAG.sub(lambda flag: flag[0].translate(_SHOWN_TAGS), composed(text))
    shown = "".join(
        character
        for character in kept
        if unicodedata.category(character) != "Cf" and not _selects_variant(character)
    )
    return composed(" ".join(shown.split()))


def alike(texts: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two different texts that look alike, in sorted order, or None."""
    seen: dict[str, str] = {}
    for text in sorted(set(texts)):
        if (first := seen.setdefault(appearance(text), text)) != text:
            return first, text
    return None


def _selects_variant(character: str) -> bool:
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
