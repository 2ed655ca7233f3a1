"""A version's predictions on its held-out examples, stored for paired comparisons.

The format is a safetensors file with three tensors, whose rows are in the order of the examples' digests:
``items`` uint8 [N, 32], ``labels`` int64 [N] (uint8 [N, C] for multilabel), ``logits`` float32 [N, C]. If
examples share a group there is a fourth: ``groups`` uint8 [N, 32]. Equal predictions have equal bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from registry.digests import PREFIX, Digest
from registry.errors import InvalidValue

MAX_BYTES = 1 << 32

_ITEMS, _LABELS, _LOGITS, _GROUPS = "items", "labels", "logits", "groups"


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Predictions on a test set.

    Attributes:
        items: raw digests of the examples, uint8 [N, 32], ascending and unique.
        labels: index of each example's true label, int64 [N], 0 up to C; for multilabel an indicator per
            label, uint8 [N, C], 0 or 1.
        logits: the version's logits for each, float32 [N, C], finite.
        groups: raw digest of each example's group, uint8 [N, 32]; examples of one group are not independent.
            None if no two examples share a group.
    """

    items: np.ndarray
    labels: np.ndarray
    logits: np.ndarray
    groups: np.ndarray | None = None

    def __post_init__(self) -> None:
        count = len(self.items)
        shapes_fit = self.items.shape == (count, 32) and self.logits.ndim == 2 and len(self.logits) == count
        dtypes_fit = self.items.dtype == np.uint8 and self.logits.dtype == np.float32
        one = self.labels.dtype == np.int64 and self.labels.shape == (count,)
        several = self.labels.dtype == np.uint8 and self.labels.shape == self.logits.shape
        if not (shapes_fit and dtypes_fit and (one or several)):
            raise InvalidValue(
                "predictions are items uint8 [N, 32], labels int64 [N] or uint8 [N, C], and logits float32 "
                "[N, C]; got "
                + ", ".join(
                    f"{array.dtype} {list(array.shape)}" for array in (self.items, self.labels, self.logits)
                )
            )
        if not np.isfinite(self.logits).all():
            raise InvalidValue("predictions hold finite logits, these are not")
        top = 2 if several else self.logits.shape[1]
        if self.labels.size and not (self.labels.min() >= 0 and self.labels.max() < top):
            raise InvalidValue(f"labels are 0 up to {top}, got {self.labels.min()}…{self.labels.max()}")
        keys = [row.tobytes() for row in self.items]
        if any(before >= after for before, after in pairwise(keys)):
            raise InvalidValue("predictions stand in the order of their items' digests, each once")
        if self.groups is not None:
            if self.groups.dtype != np.uint8 or self.groups.shape != (count, 32):
                raise InvalidValue(
                    f"groups are uint8 [{count}, 32], got {self.groups.dtype} {list(self.groups.shape)}"
                )
            if not _shared(self.groups):
                raise InvalidValue("groups are left out of predictions where no two examples share one")

    @classmethod
    def of(
        cls,
        digests: Sequence[Digest],
        labels: np.ndarray,
        logits: np.ndarray,
        groups: Sequence[Digest] | None = None,
    ) -> Self:
        """Return predictions, sorted by digest.

        Args:
            digests: of the examples, N different ones.
            labels: index of each example's true label, int64 [N]; for multilabel an indicator per label,
                uint8 [N, C].
            logits: float32 [N, C].
            groups: digest of each example's group, N; an example without a group has its own digest. None if
                all have none.

        Raises:
            InvalidValue: shapes, dtypes or values are wrong.
        """
        raw = _raw(digests)
        order = np.array(sorted(range(len(digests)), key=lambda at: digests[at]), np.int64)
        grouped = None if groups is None else _raw(groups)
        if grouped is not None and len(grouped) != len(raw):
            raise InvalidValue(f"expected the group of each of {len(raw)} examples, got {len(grouped)}")
        return cls(
            raw[order],
            labels[order],
            np.ascontiguousarray(logits[order]),
            grouped[order] if grouped is not None and _shared(grouped) else None,
        )

    @property
    def multilabel(self) -> bool:
        """True if an example can have any number of labels."""
        return self.labels.ndim == 2

    def right(self) -> np.ndarray:
        """Return whether each prediction is correct, bool [N]: the top label, or for multilabel all labels.

        A label is predicted if its sigmoid is above 0.5.
        """
        if self.multilabel:
            exact: np.ndarray = ((self.logits > 0) == (self.labels > 0)).all(axis=1)
            return exact
        first: np.ndarray = self.logits.argmax(axis=1) == self.labels
        return first

    def __len__(self) -> int:
        return len(self.items)

    @property
    def digests(self) -> tuple[Digest, ...]:
        """The examples' digests, ascending."""
        return tuple(Digest(PREFIX + row.tobytes().hex()) for row in self.items)

    def to_bytes(self) -> bytes:
        """Return the stored form; ``parse`` reads it back."""
        tensors = {_ITEMS: self.items, _LABELS: self.labels, _LOGITS: self.logits}
        return save(tensors if self.groups is None else tensors | {_GROUPS: self.groups})

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the stored form.

        Raises:
            InvalidValue: the bytes are not stored predictions.
        """
        if len(data) > MAX_BYTES:
            raise InvalidValue(f"predictions have at most {MAX_BYTES:,} bytes, got {len(data):,}")
        try:
            tensors = load(data)
        except (SafetensorError, KeyError, ValueError) as error:
            raise InvalidValue(f"expected stored predictions; {error}") from error
        if set(tensors) - {_GROUPS} != {_ITEMS, _LABELS, _LOGITS}:
            raise InvalidValue(f"predictions hold items, labels and logits, got {sorted(tensors)[:10]}")
        return cls(tensors[_ITEMS], tensors[_LABELS], tensors[_LOGITS], tensors.get(_GROUPS))


def _raw(digests: Sequence[Digest]) -> np.ndarray:
    """Return digests as bytes, uint8 [N, 32]."""
    return np.frombuffer(bytes.fromhex("".join(digest.hex for digest in digests)), np.uint8).reshape(-1, 32)


def _shared(groups: np.ndarray) -> bool:
    """Tell whether any two examples share a group."""
    return len({row.tobytes() for row in groups}) < len(groups)
