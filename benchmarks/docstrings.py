"""Real texts that every installation has: what four libraries' docstrings begin with.

The label is the library. Versions of the libraries move the texts, so figures are compared within a run.
"""

import ast
import csv
import random
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

LIBRARIES = ("numpy", "scipy", "sklearn", "torch")
_DOCUMENTED = (ast.FunctionDef, ast.ClassDef)
_LENGTHS = range(40, 400)
_FILES = 200


def write(folder: Path, count: int, seed: int = 0) -> tuple[Path, Path]:
    """Write so many texts of each library into ``train.csv`` and as many into ``test.csv``; return both.

    Args:
        folder: where to write.
        count: texts of each library in each of the files.
        seed: which texts.
    """
    lot = random.Random(seed)
    parts: tuple[list[tuple[str, str]], ...] = ([], [])
    for library in LIBRARIES:
        chosen = lot.sample(sorted(set(paragraphs(library, lot))), 2 * count)
        for part, texts in zip(parts, (chosen[:count], chosen[count:]), strict=True):
            part += [(text, library) for text in texts]
    files = folder / "train.csv", folder / "test.csv"
    for file, part in zip(files, parts, strict=True):
        with file.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("text", "label"), *part])
    return files


def paragraphs(library: str, lot: random.Random) -> Iterator[str]:
    """Yield the first paragraphs of docstrings in some files of a library, those that do not name it."""
    spec = find_spec(library)
    assert spec is not None and spec.origin is not None, "the libraries belong to the extra `adapt`"
    files = [file for file in sorted(Path(spec.origin).parent.rglob("*.py")) if "tests" not in file.parts]
    for file in lot.sample(files, min(_FILES, len(files))):
        try:
            tree = ast.parse(file.read_bytes())
        except SyntaxError:  # meant for another Python
            continue
        for node in ast.walk(tree):
            if isinstance(node, _DOCUMENTED) and (text := ast.get_docstring(node)):
                words = " ".join(text.partition("\n\n")[0].split())
                if len(words) in _LENGTHS and library not in words.lower():
                    yield words
