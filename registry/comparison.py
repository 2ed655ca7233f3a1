"""Comparison of two versions: metrics, labels, space, segments, and predictions. Pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass

from registry.digests import Digest
from registry.errors import InvalidValue
from registry.manifest import Json, Manifest, Segment
from registry.predictions import Predictions
from registry.statistics.pairing import Pairing, pair
from registry.versions import Version

LEARNT_PARTS = frozenset({"train", "validation"})
"""Splits that a version learns from; the validation set decides when to stop training."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of two versions.

    Attributes:
        version: the version.
        manifest: its manifest.
        predictions: its predictions on its test set, or None.
        learnt: digests of the examples that it or an ancestor was trained on.
    """

    version: Version
    manifest: Manifest
    predictions: Predictions | None
    learnt: frozenset[Digest]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A comparison of two versions.

    Attributes:
        first: the first version.
        second: the second version.
    """

    first: Side
    second: Side

    @property
    def metrics(self) -> dict[str, tuple[Json, Json]]:
        """Every metric that is one number in either version, in order; None if a version lacks it."""
        ours, theirs = self.first.manifest.metrics, self.second.manifest.metrics
        names = [name for name in ours if _number(ours, name) is not None]
        names += [name for name in theirs if name not in names and _number(theirs, name) is not None]
        return {name: (_number(ours, name), _number(theirs, name)) for name in names}

    @property
    def labels_equal(self) -> bool | None:
        """Whether the same index means the same label; None if either has no head."""
        ours, theirs = self.first.manifest.heads, self.second.manifest.heads
        return ours[0].labels_digest == theirs[0].labels_digest if ours and theirs else None

    @property
    def space_equal(self) -> bool | None:
        """Whether feature vectors of the two can be compared; None if either has none."""
        ours, theirs = self.first.manifest.space_id, self.second.manifest.space_id
        return None if ours is None or theirs is None else ours == theirs

    @property
    def shared(self) -> tuple[Segment, ...]:
        """The segments with the same bytes in both, each once, as in the first version."""
        theirs = {segment.digest for segment in self.second.manifest.segments}
        ours = {segment.digest: segment for segment in self.first.manifest.segments}
        return tuple(segment for segment in ours.values() if segment.digest in theirs)

    @property
    def shared_bytes(self) -> int:
        """Bytes of shared segments, which are stored once."""
        return sum(segment.bytes for segment in self.shared)

    @property
    def own_bytes(self) -> tuple[int, int]:
        """Bytes of the segments that only the first version uses, and only the second."""
        ours, theirs = (
            sum({segment.digest: segment.bytes for segment in side.manifest.segments}.values())
            for side in (self.first, self.second)
        )
        return ours - self.shared_bytes, theirs - self.shared_bytes

    def paired(self) -> Pairing:
        """Compare the predictions on the examples that both versions predicted.

        Raises:
            InvalidValue: either has no predictions, or their predictions have different forms.
        """
        if self.first.predictions is None or self.second.predictions is None:
            lacking = self.first if self.first.predictions is None else self.second
            raise InvalidValue(f"{lacking.version.ref} has no predictions on a held-out part")
        ours, theirs = self.first.manifest.heads[0].labels, self.second.manifest.heads[0].labels
        learnt = self.first.learnt | self.second.learnt
        return pair((self.first.predictions, self.second.predictions), (ours, theirs), learnt)

    def to_json(self) -> dict[str, object]:
        """Return the JSON form; ``unpaired`` has the reason if there is no ``paired``."""
        paired, unpaired = None, None
        try:
            paired = self.paired().to_json()
        except InvalidValue as error:
            unpaired = str(error)
        return {
            "refs": [str(self.first.version.ref), str(self.second.version.ref)],
            "metrics": {name: list(values) for name, values in self.metrics.items()},
            "labels_equal": self.labels_equal,
            "space_equal": self.space_equal,
            "segments": {
                "shared": [
                    {
                        "name": segment.name,
                        "role": segment.role,
                        "digest": segment.digest,
                        "bytes": segment.bytes,
                    }
                    for segment in self.shared
                ],
                "shared_bytes": self.shared_bytes,
                "own_bytes": list(self.own_bytes),
            },
            "paired": paired,
            "unpaired": unpaired,
        }


def _number(metrics: Mapping[str, Json], name: str) -> Json:
    value = metrics.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
