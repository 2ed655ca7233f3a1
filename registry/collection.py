"""Garbage collection of bytes that no version needs.

It has two phases. First, a blob that no version refers to and no lease protects is *condemned* in the
catalog. From then on a registration that relies on it is rejected; storing or reusing it makes it live again.
Second, if the blob is still condemned after the grace period, it is deleted under a lock that prevents
leases. The grace period is for readers: a server that looked up a version just before its deletion has time
to read it. Before anything happens, ``registry.ownership`` checks that this catalog owns the store.
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
    """The result of a garbage collection, or of a dry run.

    Attributes:
        dry_run: nothing was done.
        removed: digests of deleted blobs, and names of files left by crashed writers.
        bytes: their size.
        condemned: number of blobs in their grace period.
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
    """The result of taking over a blob store, or of a dry run.

    Attributes:
        dry_run: nothing was done.
        adopted: digests of the blobs that the catalog did not know, sorted.
        bytes: their size.
    """

    dry_run: bool
    adopted: tuple[Digest, ...]
    bytes: int

    def to_json(self) -> dict[str, object]:
        """Return the JSON form: that of a collection that removed nothing, with the adopted blobs."""
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
    """Condemn unneeded blobs, and delete blobs whose grace period is over.

    Args:
        catalog: knows the needed blobs.
        blobs: the store.
        at: the current time.
        grace: how long a blob stays after it was condemned; zero deletes at once.
        dry_run: only report what would be deleted now.
        progress: shows the processed blobs.
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
                # Only the row remains of bytes that were never stored.
                removed += [] if size is None else [blob.digest]
                freed += size or 0
            step.advance()

    for staged in blobs.staged():
        # A writer takes its lease before it creates the file.
        if staged.modified <= before and not catalog.leased(staged.digest, at):
            if not dry_run:
                blobs.discard(staged.name)
            removed.append(staged.name)
            freed += staged.bytes
    return Collection(dry_run, tuple(removed), freed, waiting)
