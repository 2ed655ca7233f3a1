"""Where a version comes from, generation by generation, and what each keeps of the one before. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from registry.digests import Digest
from registry.lifecycle import Event
from registry.manifest import Manifest, Segment
from registry.names import Ref
from registry.versions import Version

Ancestor: TypeAlias = "tuple[Version, Manifest] | Event | None"
"""A registered version; the event that deleted it; or None where nothing is known of the digest."""


@dataclass(frozen=True, slots=True)
class Inheritance:
    """A segment of a generation.

    Attributes:
        segment: as the generation's manifest has it.
        shared: whether the parent has a segment of the same bytes.
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
    """One version on the way from a source to the version that was asked about.

    Attributes:
        digest: its identity.
        ref: its full name; None where nothing is known of it but the digest.
        technique: how it was carried over; None of one that was deleted.
        source: spec of what it was carried over from; None of one that was deleted.
        parent: digest of the registered version that it was carried over from, or None.
        stages: the places that it is in; none of one that was deleted.
        segments: what it is made of, from the input on; none of one that was deleted.
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
        """True where it is not registered any more."""
        return self.technique is None

    @property
    def bytes_saved(self) -> int:
        """Bytes that it did not need to store, because its parent has them."""
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
        generations: the oldest first, the version itself last.
        children: the versions that were carried over from it, the last registered first.
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

    A digest cannot contain itself, so the way has an end.

    Args:
        version: where to begin.
        manifest: its own.
        find: returns what is known of an ancestor's digest.
        children: the versions that were carried over from it.
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
