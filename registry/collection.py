"""Reclaiming bytes that no version needs.

In two strokes. Whatever no version refers to and no lease holds is *condemned* in the catalog; from then on a
registration that still counts on it is refused, while storing or reusing it takes it back. Once the
grace period is over, and if it is condemned still, it is deleted, while nobody can lease it. The
grace is for readers: a server that looked a version up a moment before its deletion has the time to read it.

Whether this catalog may decide over the store at all is for ``registry.ownership`` to say, before anything happens.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from registry.blobs import Blobs
from registry.catalog import Catalog
from registry.catalog.catalog import CONDEMNED
from registry.digests import Digest
from registry.progress import SILENT, Progress

GRACE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Collection:
    """What the garbage collector did, or would do now.

    Attributes:
        dry_run: nothing was done.
        removed: digests of deleted blobs, and names of files that a crashed writer left.
        bytes: how many bytes they took.
        condemned: how many blobs wait for their grace period to end.
    """

    dry_run: bool
    removed: tuple[str, ...]
    bytes: int
    condemned: int

    def to_json(self) -> dict[str, object]:
        """Return the JSON form."""
        return {"dry_run": self.dry_run, "removed": list(self.removed), "bytes": self.bytes}


@dataclass(frozen=True, slots=True)
class Adoption:
    """What a catalog took over with a blob store, or would take over.

    Attributes:
        dry_run: nothing was done.
        adopted: digests of the blobs that the catalog did not know, sorted.
        bytes: how many bytes they take.
    """

    dry_run: bool
    adopted: tuple[Digest, ...]
    bytes: int

    def to_json(self) -> dict[str, object]:
        """Return the JSON form: that of a collection which removed nothing, and what was adopted."""
        return {
            "dry_run": self.dry_run,
            "removed": [],
            "bytes": 0,
            "adopted": list(self.adopted),
            "adopted_bytes": self.bytes,
        }


def collect(
    catalog: Catalog, blobs: Blobs, at: datetime, grace: timedelta = GRACE, *, dry_run: bool = False,
    progress: Progress = SILENT,
) -> Collection:  # fmt: skip
    """Condemn what nothing needs, and delete what has been condemned for the grace period.

    Args:
        catalog: says what is needed.
        blobs: where the bytes are.
        at: the time now.
        grace: how long a blob stays after it was condemned; zero deletes at once.
        dry_run: only say what would be deleted now.
        progress: who watches the blobs being dealt with.
    """
    before = at - grace
    if not dry_run:
        catalog.condemn([blob.digest for blob in catalog.unneeded(at)], at)
    unneeded = list(catalog.unneeded(at))

    removed: list[str] = []
    freed = waiting = 0
    with progress.step("collecting", len(unneeded)) as step:
        for blob in unneeded:
            size = blobs.size(blob.digest)
            condemned_at = blob.since if blob.state == CONDEMNED else at
            if condemned_at > before:
                waiting += 1
            elif dry_run or catalog.reclaim(blob.digest, at, before, partial(blobs.delete, blob.digest)):
                # Bytes that never came leave a row, and nothing to speak of.
                removed += [] if size is None else [blob.digest]
                freed += size or 0
            step.advance()

    for staged in blobs.staged():
        # Whoever writes holds a lease since before the file was there.
        if staged.modified <= before and not catalog.leased(staged.digest, at):
            if not dry_run:
                blobs.discard(staged.name)
            removed.append(staged.name)
            freed += staged.bytes
    return Collection(dry_run, tuple(removed), freed, waiting)
