"""Loading of a dataset from the path or name that a user gives."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from adapters.datasets.dataset import TEST, TRAIN, VALIDATION, Dataset
from adapters.datasets.examples import PREFIX, Example
from adapters.datasets.folder import FolderProvider
from adapters.datasets.item import Label
from adapters.datasets.labels import check_alike, ordered
from adapters.datasets.listing import DatasetProvider, Listing, absolute
from adapters.datasets.rarity import frequent
from adapters.datasets.reading import Reading, gather, read
from adapters.datasets.splits import divide
from adapters.datasets.table import TableProvider
from registry.errors import DatasetError
from registry.progress import SILENT, Progress
from registry.recipe import Recipe
from registry.tables import READERS

DUPLICATE = "duplicate"
DUPLICATE_ACROSS_PARTS = "duplicate in another part"
CONTRADICTING = "contradicting labels"

_PRECEDENCE = (TEST, VALIDATION, TRAIN, None)


def load(
    data: str | Path,
    recipe: Recipe,
    *,
    test: str | Path | None = None,
    labelled: bool = True,
    min_count: int = 0,
    progress: Progress = SILENT,
    before: Callable[[int], None] | None = None,
) -> Dataset:
    """Read, check, digest and split a dataset.

    Args:
        data: a folder of class folders, a ``.csv``, ``.jsonl`` or ``.parquet`` file, or ``example:NAME``.
        recipe: the source's recipe; it decodes every example here, so that nothing fails later.
        test: test data of the same formats; otherwise about a fifth of ``data`` is held out.
        labelled: whether labels are needed; if not, they are ignored.
        min_count: labels with fewer examples are dropped; 0 keeps all.
        progress: shows the progress and the excluded rows.
        before: called with the number of rows before the first is read; may raise an error.

    Raises:
        DatasetError: the data cannot be used as it is.
        WrongModality: the data are pictures and the recipe takes texts, or the reverse.
    """
    listing = _list(data, recipe.modality, labelled)
    if test is not None:
        listing = _joined(listing, _list(test, recipe.modality, labelled))
    if before is not None:
        before(len(listing.rows))
    reading = read(listing.rows, recipe, progress)
    kept, repeated = _distinct(reading)
    _check_classes(listing, reading, kept)
    common = frequent([reading.items[at] for at in kept], [reading.rows[at].part for at in kept], min_count)
    for reason in (*common.excluded, *common.remarks):
        reading.examples[reason] = common.example
    kept = [at for at, item in zip(kept, common.items, strict=True) if item is not None]
    items = tuple(item for item in common.items if item is not None)
    check_alike(label for item in items for label in item.labels)
    parts = divide(items, [reading.rows[at].part for at in kept])
    excluded = Counter(listing.excluded) + reading.excluded + repeated + common.excluded
    remarks = Counter(listing.remarks) + reading.remarks + common.remarks
    dataset = Dataset(
        name=str(data),
        recipe=recipe,
        items=items,
        labels=ordered(label for item in items for label in item.labels),
        parts=parts,
        rows=gather(reading.prepared, np.array(kept, np.int64)),
        excluded=dict(sorted(excluded.items())),
        remarks=dict(sorted(remarks.items())),
    )
    notes = _notes(dataset, reading)
    if not any(row.part == TEST for row in reading.rows):
        notes = (_held_out(dataset), *notes)
    dataset = replace(dataset, notes=notes)
    for note in dataset.notes:
        progress.say(note)
    return dataset


def provider(data: str | Path, modality: str = "image") -> DatasetProvider:
    """Return the provider that reads a path or name, for a modality.

    Raises:
        DatasetError: nothing is there, or it has no known format.
    """
    if isinstance(data, str) and data.startswith(PREFIX):
        return Example(data.removeprefix(PREFIX), modality)
    path = absolute(data)
    if path.is_dir():
        return FolderProvider(path, modality)
    if path.is_file() and path.suffix.lower() in READERS:
        return TableProvider(path, modality)
    problem = "this file is none of them" if path.exists() else "there is nothing"
    raise DatasetError(
        f"{data}: expected a folder of class folders, a file ending in {', '.join(READERS)}, or {PREFIX}NAME; {problem}"
    )


def _list(data: str | Path, modality: str, labelled: bool) -> Listing:
    return provider(data, modality).listing(labelled)


def _joined(listing: Listing, test: Listing) -> Listing:
    """Add separate test data as the test split."""
    inner = sum(row.part == TEST for row in listing.rows)
    if inner:
        raise DatasetError(
            f"the data already holds a test part ({inner} items), and a separate one is given; leave one of them out"
        )
    rows = listing.rows + tuple(replace(row, part=TEST) for row in test.rows)
    return Listing(
        rows,
        dict(Counter(listing.excluded) + Counter(test.excluded)),
        dict(Counter(listing.remarks) + Counter(test.remarks)),
    )


def _distinct(reading: Reading) -> tuple[list[int], Counter[str]]:
    """Return the positions to keep, in the order of the examples' digests, and the excluded ones.

    Of equal examples the one in the most protected split is kept; if their labels differ, none is.
    """
    copies: defaultdict[str, list[int]] = defaultdict(list)
    for at, item in enumerate(reading.items):
        copies[item.digest].append(at)
    kept: list[int] = []
    excluded: Counter[str] = Counter()
    for _, positions in sorted(copies.items()):
        if len({reading.items[at].label for at in positions}) > 1:
            excluded[CONTRADICTING] += len(positions)
            names = " and ".join(
                f"{reading.items[at].origin} ({reading.items[at].label})" for at in positions[:2]
            )
            reading.examples.setdefault(CONTRADICTING, f"{names} are the same bytes")
            continue
        best = min(
            positions,
            key=lambda at: (_PRECEDENCE.index(reading.rows[at].part), reading.items[at].group or "", at),
        )
        kept.append(best)
        for at in positions:
            if at != best:
                across = reading.rows[at].part != reading.rows[best].part
                reason = DUPLICATE_ACROSS_PARTS if across else DUPLICATE
                excluded[reason] += 1
                reading.examples.setdefault(
                    reason, f"{reading.items[at].origin} and {reading.items[best].origin}"
                )
    return kept, excluded


def _check_classes(listing: Listing, reading: Reading, kept: list[int]) -> None:
    """Raise an error if a class has lost all of its examples."""
    left = {label for at in kept for label in _labels_of(reading.items[at].label)}
    for row in listing.rows:
        for label in _labels_of(row.label):
            if label in left:
                continue
            what = "nothing" if label is None else f"nothing of the class {label!r}"
            why = "; ".join(reading.examples.values())
            raise DatasetError(f"{what} could be used: {why}")


def _labels_of(label: Label | None) -> tuple[str | None, ...]:
    return label if isinstance(label, tuple) else (label,)


def _held_out(dataset: Dataset) -> str:
    held, whole = len(dataset.split(TEST)), len(dataset)
    return f"held out by a hash of the content: {held:,} of {whole:,} items ({held / whole:.1%})"


def _notes(dataset: Dataset, reading: Reading) -> tuple[str, ...]:
    notes = [
        f"left out, {reason}: {count}"
        + (f" ({reading.examples[reason]})" if reason in reading.examples else "")
        for reason, count in dataset.excluded.items()
    ]
    notes += [
        f"{reason}: {count}" + (f" ({reading.examples[reason]})" if reason in reading.examples else "")
        for reason, count in dataset.remarks.items()
    ]
    tested = {label for item in dataset.split(TEST) for label in item.labels}
    untested = [label for label in dataset.labels if label not in tested]
    if untested:
        more = f" and {len(untested) - 5} more" if len(untested) > 5 else ""
        notes.append(f"not tested, no item was held out: {', '.join(untested[:5])}{more}")
    return tuple(notes)
