"""Blobs and the leases on them. Every function runs in the caller's transaction."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from registry.catalog.catalog import CONDEMNED, LIVE, STAGED, Blob
from registry.catalog.engine import chunks, insert_new, insert_or_update
from registry.catalog.schema import blobs, exports, leases, refs
from registry.digests import Digest
from registry.errors import CondemnedBlob, MissingBlob


def claimable(
    connection: sa.Connection, digest: Digest, new: tuple[str, int] | None, at: datetime
) -> sa.Row[Any] | None:
    """Lock a blob's row; create it for a new blob."""
    locked = sa.select(blobs).where(blobs.c.digest == digest).with_for_update()
    while True:
        if new is not None:
            kind, size = new
            insert_new(connection, blobs, digest=digest, kind=kind, bytes=size, state=STAGED, since=at)
        row = connection.execute(locked).one_or_none()
        # On PostgreSQL the collector may delete the row between the two statements, during the wait for its
        # lock.
        if row is not None or new is None:
            return row


def check_claims(connection: sa.Connection, holder: str, needed: set[Digest]) -> None:
    """Lock the blobs and check that each is live and leased by the holder.

    Raises:
        CondemnedBlob: the collector has claimed one of them.
        MissingBlob: one of them is not live, or not leased by the holder.
    """
    found: dict[str, str] = {}
    held: set[str] = set()
    for some in chunks(sorted(needed)):
        locked = sa.select(blobs).where(blobs.c.digest.in_(some)).order_by(blobs.c.digest).with_for_update()
        found |= {row.digest: row.state for row in connection.execute(locked)}
        claims = sa.select(leases.c.digest).where(leases.c.holder == holder, leases.c.digest.in_(some))
        held |= set(connection.execute(claims).scalars())
    for digest in sorted(digest for digest, state in found.items() if state == CONDEMNED):
        raise CondemnedBlob(f"the garbage collector has claimed {digest}; store it again, then register")
    for digest in sorted(needed):
        if found.get(digest) != LIVE or digest not in held:
            raise MissingBlob(
                f"expected {digest} stored or reused in this publication, it was not; store it first"
            )


def nothing_needs(at: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions for a row of ``blobs`` that no version refers to and no lease holds."""
    return (
        ~sa.exists().where(refs.c.digest == blobs.c.digest),
        ~sa.exists().where((leases.c.digest == blobs.c.digest) & (leases.c.expires > at)),
    )


def remember(connection: sa.Connection, exported: Mapping[Digest, Digest]) -> None:
    """Record which segments weights were exported to."""
    for weights, digest in sorted(exported.items()):
        insert_or_update(connection, exports, weights=weights, digest=digest)


def blob_of(row: sa.Row[Any]) -> Blob:
    """Return the blob that a row of ``blobs`` holds."""
    return Blob(Digest(row.digest), row.kind, row.bytes, row.state, row.since)
