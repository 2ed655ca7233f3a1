"""A version's ancestors, and the segments that each generation shares with its parent. Pure functions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from registry.digests import Digest
from registry.lifecycle import Event
from registry.manifest import Manifest, Segment
from registry.names import Ref
from registry.versions import Version

Ancestor: TypeAlias = "tuple[Version, Manifest] | Event | None"
"""A registered version; the event that deleted it; or None if the digest is unknown."""


@dataclass(frozen=True, slots=True)
class Inheritance:
    """A segment of a generation.

    Attributes:
        segment: the segment in the generation's manifest.
        shared: whether the parent has a segment with the same bytes.
    """

    segment: Segment
    shared: bool

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "name": self.segment.name,
            "role": self.segment.role,
            "digest": self.segment.digest,
            "bytes": self.segment.bytes,
            "shared_with_parent": self.shared,
        }


@dataclass(frozen=True, slots=True)
class Generation:
    """One version in the ancestry of a version.

    Attributes:
        digest: its identity.
        ref: its full ref; None if only its digest is known.
        technique: name of the technique; None if it was deleted.
        source: spec of its source; None if it was deleted.
        parent: digest of the registered version that it was adapted from, or None.
        stages: its stages; empty if it was deleted.
        segments: its segments, starting at the input; empty if it was deleted.
        deleted: the event that deleted it, or None.
    """

    digest: Digest
    ref: Ref | None
    technique: str | None = None
    source: str | None = None
    parent: Digest | None = None
    stages: tuple[str, ...] = ()
    segments: tuple[Inheritance, ...] = ()
    deleted: Event | None = None

    @property
    def gone(self) -> bool:
        """True if it is no longer registered."""
        return self.technique is None

    @property
    def bytes_saved(self) -> int:
        """Bytes that it shares with its parent and did not store again."""
        return sum(
            {each.segment.digest: each.segment.bytes for each in self.segments if each.shared}.values()
        )

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "ref": None if self.ref is None else str(self.ref),
            "digest": self.digest,
            "technique": self.technique,
            "source": self.source,
            "parent": self.parent,
            "stages": list(self.stages),
            "deleted": self.gone,
            "bytes_saved": self.bytes_saved,
            "segments": [each.to_json() for each in self.segments],
        }


@dataclass(frozen=True, slots=True)
class Lineage:
    """A version's ancestry.

    Attributes:
        generations: oldest first, the version itself last.
        children: the versions that were adapted from it, newest first.
    """

    generations: tuple[Generation, ...]
    children: tuple[Ref, ...]

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "ref": str(self.generations[-1].ref),
            "generations": [each.to_json() for each in self.generations],
            "children": [str(child) for child in self.children],
        }


def trace(
    version: Version, manifest: Manifest, find: Callable[[Digest], Ancestor], children: Sequence[Ref] = ()
) -> Lineage:
    """Follow a version's parents as far as they are known.

    A digest cannot contain itself, so there is no cycle.

    Args:
        version: the version.
        manifest: its manifest.
        find: returns the ancestor with a digest.
        children: the versions that were adapted from it.
    """
    found: list[Generation] = []
    ancestor: Ancestor = (version, manifest)
    while isinstance(ancestor, tuple):
        here, made = ancestor
        digest = made.origin.parent
        ancestor = None if digest is None else find(digest)
        found.append(_generation(here, made, ancestor))
        if digest is not None and not isinstance(ancestor, tuple):
            found.append(Generation(digest, ancestor.ref if ancestor else None, deleted=ancestor))
    return Lineage(tuple(reversed(found)), tuple(children))


def _generation(version: Version, manifest: Manifest, parent: Ancestor) -> Generation:
    theirs = {each.digest for each in parent[1].segments} if isinstance(parent, tuple) else set()
    return Generation(
        version.digest,
        version.ref,
        version.technique,
        manifest.origin.spec,
        manifest.origin.parent,
        version.stages,
        tuple(Inheritance(segment, segment.digest in theirs) for segment in manifest.segments),
    )
