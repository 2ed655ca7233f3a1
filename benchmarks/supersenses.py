"""Glosses of WordNet's nouns, labelled with the kind of thing that they tell of: few words, 24 labels.

Each line of ``data.noun`` is a meaning: the number of its lexicographer's file, which is the label, and behind ``|``
its gloss (wndb(5WN), WordNet 3.0, Princeton University). "Supersenses" are Ciaramita and Johnson's name for the
files ("Supersense Tagging of Unknown Nouns in WordNet", 2003).
"""

import csv
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from registry.errors import DatasetError

DATA = Path("/usr/share/wordnet/data.noun")
"""Where Debian's package ``wordnet-base`` puts it."""

FILES = {
    4: "act",
    5: "animal",
    6: "artifact",
    7: "attribute",
    8: "body",
    9: "cognition",
    10: "communication",
    11: "event",
    12: "feeling",
    13: "food",
    14: "group",
    15: "location",
    17: "object",
    18: "person",
    19: "phenomenon",
    20: "plant",
    21: "possession",
    22: "process",
    23: "quantity",
    24: "relation",
    25: "shape",
    26: "state",
    27: "substance",
    28: "time",
}
"""Labels by number (lexnames(5WN)). Left out are 03, ``Tops``, which holds the roots of the others, and 16, ``motive``,
which has 42 meanings: too few to learn from and to test on."""

TESTED, FREE = 100, 200
"""Glosses of each label that are tested on, and that shots are drawn from."""


def glosses(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield gloss and label of every meaning in the files above, examples cut off.

    Args:
        lines: of ``data.noun``; the licence that it begins with is passed over.

    Raises:
        DatasetError: a line is not a meaning.
    """
    for number, line in enumerate(lines, 1):
        if line.startswith("  "):
            continue
        facts, bar, gloss = line.partition("|")
        fields = facts.split()
        if not bar or len(fields) < 2 or not fields[1].isdecimal():
            raise DatasetError(f"expected a noun of WordNet 3.0 in line {number}, got {line[:60]!r}")
        text = " ".join(gloss.partition(";")[0].partition('"')[0].split())
        label = FILES.get(int(fields[1]))
        if label and text:
            yield text, label


def chosen(
    meanings: Iterable[tuple[str, str]], tested: int = TESTED, free: int = FREE, seed: int = 0
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Draw so many glosses of each label to test on, and others to learn from; return both.

    A gloss that stands for several meanings is left out: it may be right under one label and wrong under another.

    Raises:
        DatasetError: a label has too few.
    """
    seen: dict[str, list[str]] = defaultdict(list)
    for text, label in meanings:
        seen[text].append(label)
    by_label: dict[str, list[str]] = defaultdict(list)
    for text, labels in seen.items():
        if len(labels) == 1:
            by_label[labels[0]].append(text)
    lot = random.Random(seed)
    held: list[tuple[str, str]] = []
    kept: list[tuple[str, str]] = []
    for label in FILES.values():
        texts = sorted(by_label[label])
        if len(texts) < tested + free:
            raise DatasetError(
                f"expected {tested + free} glosses of {label!r}, found {len(texts)}; install Debian's "
                "wordnet-base, version 3.0"
            )
        drawn = [(text, label) for text in lot.sample(texts, tested + free)]
        held += drawn[:tested]
        kept += drawn[tested:]
    return held, kept


def others(tested: Path, data: Path = DATA) -> list[str]:
    """Return every gloss in the files above but for those that are tested on, each once, sorted.

    Args:
        tested: what :func:`write` wrote.
        data: that it wrote it from.
    """
    with tested.open(newline="", encoding="utf-8") as stream:
        held = {row["text"] for row in csv.DictReader(stream)}
    with data.open(encoding="utf-8") as stream:
        return sorted({text for text, _ in glosses(stream)} - held)


def write(folder: Path, data: Path = DATA) -> tuple[Path, Path]:
    """Write ``free.csv`` and ``test.csv`` into a folder; return both. Equal data give equal files.

    Raises:
        DatasetError: WordNet is not installed, or is another.
    """
    try:
        with data.open(encoding="utf-8") as stream:
            held, kept = chosen(glosses(stream))
    except FileNotFoundError as error:
        raise DatasetError(
            f"expected WordNet's nouns in {data}, there is no such file; install them: apt install wordnet-base"
        ) from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"expected WordNet's nouns in {data}, it is no text: {error}") from error
    files = folder / "free.csv", folder / "test.csv"
    for file, part in zip(files, (kept, held), strict=True):
        with file.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([("text", "label"), *part])
    return files
