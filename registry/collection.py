"""Reclaiming bytes that no version needs.

In two strokes. Whatever no version refers to and no lease holds is *condemned* in the catalog; from then on a
registration that still counts on it is refused, while storing or reusing it takes it back. Once the
grace period is over, and if it is condemned still, it is deleted, while nobody can lease it. The
grace is for readers: a server that looked a version up a moment before its deletion has the time to read it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from registry.blobs import Blobs, Stored
from registry.catalog import Blob, Catalog
from registry.catalog.catalog import CONDEMNED, STAGED
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
    strangers = _strangers(catalog, blobs)
    if not dry_run:
        for stranger in strangers:
            catalog.adopt(stranger.digest, stranger.bytes, at)
        catalog.condemn([blob.digest for blob in catalog.unneeded(at)], at)
    unneeded = list(catalog.unneeded(at))
    if dry_run:
        unneeded += [Blob(each.digest, "unknown", each.bytes, STAGED, at) for each in strangers]

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


def _strangers(catalog: Catalog, blobs: Blobs) -> list[Stored]:
    """Return what is in the store and not in the catalog: nobody leased it, so nobody is writing it."""
    stored = {each.digest: each for each in blobs.list()}
    return [stored[digest] for digest in catalog.unknown(sorted(stored))]
