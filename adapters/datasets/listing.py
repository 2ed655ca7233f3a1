"""What a provider of data finds: rows that nobody has read yet."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adapters.datasets.item import Label
from registry.recipe import Raw

MAX_ROWS = 5_000_000
"""Rows of one dataset; a dataset is held in memory, digests and labels at least."""


@dataclass(frozen=True, slots=True)
class ListedRow:
    """One raw input as it was listed.

    Attributes:
        content: a picture's bytes, a text or a pair of texts; or the file that holds it.
        label: what it is, or None in unlabelled data.
        group: what it must stay together with, or None.
        origin: where it came from, for messages.
        part: the part that the user put it in, or None where it is ours to choose.
    """

    content: Raw | Path
    label: Label | None
    group: str | None
    origin: str
    part: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """The rows of some data, in any order.

    Attributes:
        rows: at most five million.
        excluded: what was passed over, counted by reason.
        remarks: what was not read plainly, counted by reason.
    """

    rows: tuple[ListedRow, ...]
    excluded: Mapping[str, int] = field(default_factory=dict)
    remarks: Mapping[str, int] = field(default_factory=dict)


class DatasetProvider(ABC):
    """A way to list data of one form."""

    @abstractmethod
    def listing(self, labelled: bool) -> Listing:
        """Return what there is.

        Args:
            labelled: whether every row needs a label; if not, labels are not looked for.

        Raises:
            DatasetError: the data has not the form that the provider reads.
        """


def absolute(path: str | Path) -> Path:
    """Return a path as the operating system sees it from here, ``~`` expanded, links kept."""
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - Path.resolve would follow links
