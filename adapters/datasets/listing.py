"""Listings of data providers: rows that have not been read yet."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adapters.datasets.item import Label
from registry.recipe import Raw

MAX_ROWS = 5_000_000
"""Most rows of one dataset; at least its digests and labels are in memory."""


@dataclass(frozen=True, slots=True)
class ListedRow:
    """One listed raw input.

    Attributes:
        content: a picture's bytes, a text or a pair of texts; or its file.
        label: its label or labels, or None in unlabelled data.
        group: its group, which stays in one split, or None.
        origin: its origin, for messages.
        part: the split chosen by the user, or None.
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
        excluded: number of skipped inputs, by reason.
        remarks: number of inputs that needed interpretation, by reason.
    """

    rows: tuple[ListedRow, ...]
    excluded: Mapping[str, int] = field(default_factory=dict)
    remarks: Mapping[str, int] = field(default_factory=dict)


class DatasetProvider(ABC):
    """Lists data of one format."""

    @abstractmethod
    def listing(self, labelled: bool) -> Listing:
        """Return what there is.

        Args:
            labelled: whether every row needs a label; if not, labels are ignored.

        Raises:
            DatasetError: the data does not have the provider's format.
        """


def absolute(path: str | Path) -> Path:
    """Return an absolute path with ``~`` expanded and links kept."""
    return Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - Path.resolve would follow links
