"""Short texts of real use: the one-line descriptions of Debian's packages, labelled by their sections."""

import csv
import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import numpy as np

from registry.errors import DatasetError

SECTIONS = ("games", "science", "net", "sound", "graphics", "admin")
"""Sections that tell something of what a package is for, six of the larger ones."""

LEARNT, TESTED = 480, 480
"""Descriptions to learn from, and others to test on, of all labels together."""

_FIELD = re.compile(r"^(Section|Description): (.+)$", re.MULTILINE)


def write(folder: Path, labels: int) -> tuple[Path, Path]:
    """Write descriptions to learn from and others to test on, as csv files.

    Args:
        folder: where to.
        labels: how many sections, 2 to 6.

    Raises:
        DatasetError: this is no Debian, or its package lists are not there.
    """
    found = _descriptions()
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    parts: tuple[list[tuple[str, str]], list[tuple[str, str]]] = [], []
    for section in SECTIONS[:labels]:
        texts = sorted(found[section])
        order = random.permutation(len(texts))
        learnt, tested = LEARNT // labels, TESTED // labels
        if len(texts) < learnt + tested:
            raise DatasetError(
                f"expected {learnt + tested} packages of section {section} in Debian's lists, got {len(texts)}"
            )
        parts[0].extend((texts[at], section) for at in order[:learnt])
        parts[1].extend((texts[at], section) for at in order[learnt : learnt + tested])
    places = folder / f"learnt-{labels}.csv", folder / f"tested-{labels}.csv"
    for place, rows in zip(places, parts, strict=True):
        with place.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("text", "label"))
            writer.writerows(rows)
    return places


def _descriptions() -> dict[str, set[str]]:
    """Return the descriptions of each section; one that several sections have is left out."""
    if shutil.which("apt-cache") is None:
        raise DatasetError("expected Debian's package lists, got a system without apt-cache")
    listed = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True, check=True).stdout
    sections: dict[str, set[str]] = defaultdict(set)
    for stanza in listed.split("\n\n"):
        fields = dict(_FIELD.findall(stanza))
        if len(fields) == 2:
            sections[fields["Description"]].add(fields["Section"])
    found: dict[str, set[str]] = defaultdict(set)
    for text, of in sections.items():
        if len(of) == 1:
            found[next(iter(of))].add(text)
    if not found:
        raise DatasetError("expected Debian's package lists, which apt-get update fetches, got none")
    return found
