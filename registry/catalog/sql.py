"""The catalog in a SQL database, on SQLAlchemy Core: a SQLite file, or PostgreSQL.

On SQLite a writing transaction holds the file's write lock from its beginning. On PostgreSQL rows are locked
instead, always in this order to prevent deadlocks: blobs by digest, the transfer, the target, a version, the
counter of events. Data under a lock is read in a later statement, which sees everything committed before the
lock was granted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Self

import sqlalchemy as sa

from registry.catalog import keys
from registry.catalog.catalog import CONDEMNED, LIVE, STAGED, Blob, Catalog, CatalogHead, CatalogIdentity
from registry.catalog.chain import EVENT_COUNT, STAGE_COUNT, append, event_of, expected, lock, standing_of
from registry.catalog.claims import blob_of, check_claims, claimable, nothing_needs, remember
from registry.catalog.engine import (
    check_writable,
    chunks,
    explained,
    faults,
    insert_new,
    insert_or_update,
    open_engine,
    where,
    writing,
)
from registry.catalog.identities import hash_of_event, place_of, read_identity
from registry.catalog.migrations import upgrade
from registry.catalog.records import (
    check_live,
    check_parent,
    conditions,
    fetch,
    is_ref,
    is_transfer,
    next_number,
    project,
    row_of,
)
from registry.catalog.schema import (
    blobs,
    events,
    exports,
    identity,
    leases,
    refs,
    targets,
    transfers,
    versions,
)
from registry.digests import Digest
from registry.errors import VersionInUse
from registry.lifecycle import DELETED, PROMOTED, REGISTERED, ROLLED_BACK, Event, Standing
from registry.manifest import Manifest
from registry.names import CANDIDATE, PRODUCTION, RETIRED, Ref, Transfer
from registry.steps import COMMITTED, RECORDED, Announce, ignore
from registry.tokens import Token
from registry.versions import Query, Version


class SqlCatalog(Catalog):
    """Versions, stages, events and the claims on blobs in a SQL database."""

    def __init__(self, engine: sa.Engine, announce: Announce = ignore) -> None:
        self._reader = engine
        self._writer = writing(engine)
        self._announce = announce

    @classmethod
    def open(cls, url: str, announce: Announce = ignore, *, shared: bool = False, make: bool = True) -> Self:
        """Open a catalog; create it or migrate it to the newest schema if needed.

        Args:
            url: the catalog's URL.
            announce: called with each step.
            shared: whether the group may read and write a new file.
            make: whether to create a missing file.

        Raises:
            InvalidSetting: the URL cannot be used, or the catalog was written by a newer program.
            MissingCatalog: there is no file, and ``make`` is false.
            StorageFailure: the database does not respond.
            DamagedCatalog: the database is damaged.
            ReadOnlyRegistry: the catalog needs a migration, and this account may not write to it.
        """
        engine = open_engine(url, shared=shared, make=make)
        try:
            with explained(engine):
                upgrade(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, announce)

    def close(self) -> None:
        """Close every connection."""
        self._reader.dispose()

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with explained(self._reader), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with explained(self._writer), self._writer.begin() as connection:
            yield connection

    # Identity

    @property
    def label(self) -> str:
        """Its location, for messages."""
        return where(self._reader)

    def place(self) -> frozenset[str]:
        """Return the marks that distinguish this catalog from its copies."""
        with self._read() as connection:
            return place_of(connection)

    def identity(self) -> CatalogIdentity:
        """Return the registry's identity: its id, epoch and last event."""
        with self._read() as connection:
            return read_identity(connection)

    def event_hash(self, event: int) -> Digest | None:
        """Return the hash of the event with an id."""
        with self._read() as connection:
            return hash_of_event(connection, event)

    def raise_epoch(self, above: int = 0) -> None:
        """Start a new epoch."""
        with self._write() as connection:
            higher = sa.case((identity.c.epoch < above, above), else_=identity.c.epoch) + 1
            connection.execute(identity.update().values(epoch=higher))

    def fork(self, id: str) -> None:
        """Become another registry."""
        with self._write() as connection:
            connection.execute(identity.update().values(id=id, epoch=0))

    def knows_blobs(self) -> bool:
        """Tell whether a blob was ever leased and not reclaimed since."""
        with self._read() as connection:
            return connection.execute(sa.select(blobs.c.digest).limit(1)).first() is not None

    # Claims on blobs

    def check_writable(self) -> None:
        """Check that rows can be written: start and end a writing transaction."""
        check_writable(self._reader)
        with self._write():
            pass

    def lease(
        self, holder: str, digest: Digest, at: datetime, expires: datetime, new: tuple[str, int] | None = None
    ) -> Blob | None:
        """Claim a digest; see ``Catalog.lease``."""
        with self._write() as connection:
            row = claimable(connection, digest, new, at)
            if row is None:
                return None
            insert_or_update(connection, leases, digest=digest, holder=holder, expires=expires)
            blob = blob_of(row)
            if blob.state == CONDEMNED:
                kind, size = new or (blob.kind, blob.bytes)
                blob = Blob(digest, kind, size, STAGED, at)
                revived = blobs.update().where(blobs.c.digest == digest)
                connection.execute(revived.values(kind=kind, bytes=size, state=STAGED, since=at))
            return blob

    def confirm(self, digest: Digest, at: datetime) -> None:
        """Mark a leased blob as stored."""
        staged = (blobs.c.digest == digest) & (blobs.c.state == STAGED)
        with self._write() as connection:
            connection.execute(blobs.update().where(staged).values(state=LIVE, since=at))

    def renew(self, holder: str, expires: datetime) -> None:
        """Extend every lease of a holder."""
        with self._write() as connection:
            connection.execute(leases.update().where(leases.c.holder == holder).values(expires=expires))

    def release(self, holder: str) -> None:
        """Release every lease of a holder."""
        with self._write() as connection:
            connection.execute(leases.delete().where(leases.c.holder == holder))

    def leased(self, digest: Digest, at: datetime) -> bool:
        """Tell whether a digest has a lease that has not expired."""
        running = sa.exists().where((leases.c.digest == digest) & (leases.c.expires > at))
        with self._read() as connection:
            return bool(connection.execute(sa.select(running)).scalar_one())

    def export(self, weights: Digest) -> Digest | None:
        """Return the segment that weights were exported to earlier."""
        with self._read() as connection:
            found = connection.execute(
                sa.select(exports.c.digest).where(exports.c.weights == weights)
            ).scalar()
        return None if found is None else Digest(found)

    # Versions

    def register(
        self, manifest: Manifest, holder: str, exports: Mapping[Digest, Digest], actor: str, at: datetime
    ) -> Version:
        """Register a version in one transaction; see ``Catalog.register``."""
        needed = sorted({("manifest", manifest.digest), *manifest.blobs()})
        with self._write() as connection:
            check_claims(connection, holder, {digest for _, digest in needed})
            number = next_number(connection, manifest.transfer)
            live = (versions.c.digest == manifest.digest) & sa.not_(versions.c.deleted)
            if existing := fetch(connection, sa.select(versions).where(live)):
                return existing[0]
            target = manifest.transfer.target
            insert_new(connection, targets, name=target, seq=0, hash=None, stage_event=0)
            lock(connection, target)
            check_parent(connection, manifest.origin.parent)
            connection.execute(
                transfers.update().where(is_transfer(manifest.transfer)).values(next_number=number + 1)
            )
            ref = Ref.of(manifest.transfer, number)
            event = append(connection, actor, at, REGISTERED, ref, manifest.digest, CANDIDATE)
            row = row_of(manifest, number, event)
            connection.execute(versions.insert().values(**row))
            connection.execute(
                refs.insert(),
                [{"version": event.id, "digest": digest, "kind": kind} for kind, digest in needed],
            )
            remember(connection, exports)
            (version,) = fetch(connection, sa.select(versions).where(versions.c.event == event.id))
            self._announce(RECORDED)
        self._announce(COMMITTED)
        return version

    def find(self, query: Query, limit: int, before: int | None = None) -> Sequence[Version]:
        """Return the versions that match a query, newest first."""
        wanted = sa.select(versions).where(*conditions(query)).order_by(versions.c.event.desc()).limit(limit)
        if before is not None:
            wanted = wanted.where(versions.c.event < before)
        with self._read() as connection:
            return fetch(connection, wanted)

    def tombstone(self, ref: Ref) -> Event | None:
        """Return the event that deleted a version."""
        wanted = (
            sa.select(events)
            .where(events.c.target == ref.target, events.c.source == ref.source)
            .where(events.c.number == ref.number, events.c.action == DELETED)
        )
        with self._read() as connection:
            row = connection.execute(wanted).one_or_none()
        return None if row is None else event_of(row)

    def references(self) -> Iterator[tuple[Ref, str, Digest, int]]:
        """Yield (version, kind, digest, size in bytes) of every blob that every version needs."""
        wanted = (
            sa.select(
                versions.c.source,
                versions.c.target,
                versions.c.number,
                refs.c.kind,
                refs.c.digest,
                blobs.c.bytes,
            )
            .join_from(refs, versions, refs.c.version == versions.c.event)
            .join(blobs, blobs.c.digest == refs.c.digest)
            .order_by(versions.c.event, refs.c.kind, refs.c.digest)
        )
        with self._read() as connection:
            for row in connection.execute(wanted):
                ref = Ref.of(Transfer(row.source, row.target), row.number)
                yield ref, row.kind, Digest(row.digest), row.bytes

    # Events

    def targets(self) -> Sequence[str]:
        """Return every target that ever had a version, sorted."""
        with self._read() as connection:
            return sorted(connection.execute(sa.select(targets.c.name)).scalars())

    def position(self) -> int:
        """Return the id of the last event of all."""
        with self._read() as connection:
            return int(connection.execute(EVENT_COUNT).scalar_one())

    def stage_position(self) -> int:
        """Return the id of the last event that moved a stage."""
        with self._read() as connection:
            return int(connection.execute(STAGE_COUNT).scalar_one())

    def events(self, target: str, until: datetime | None = None) -> Sequence[Event]:
        """Return a target's events, oldest first."""
        wanted = sa.select(events).where(events.c.target == target).order_by(events.c.seq)
        if until is not None:
            wanted = wanted.where(events.c.at <= until)
        with self._read() as connection:
            return [event_of(row) for row in connection.execute(wanted)]

    def standing(self, target: str) -> Standing:
        """Return the standing of a target's versions."""
        with self._read() as connection:
            return standing_of(connection, target)

    def head(self, target: str) -> CatalogHead:
        """Return the stored end of a target's chain."""
        wanted = sa.select(targets.c.seq, targets.c.hash).where(targets.c.name == target)
        with self._read() as connection:
            row = connection.execute(wanted).one_or_none()
        return CatalogHead(0, None) if row is None else CatalogHead(row.seq, row.hash and Digest(row.hash))

    def faults(self) -> Sequence[str]:
        """Return the problems that the database's own checks find."""
        with self._read() as connection:
            return faults(connection)

    def promote(
        self,
        version: Version,
        stage: str,
        expect: int,
        actor: str,
        at: datetime,
        reason: str | None,
        forced: bool,
    ) -> Event:
        """Append a promotion; see ``Catalog.promote``."""
        with self._write() as connection:
            standing = expected(connection, version.target, expect)
            check_live(connection, version)
            event = append(
                connection, actor, at, PROMOTED, version.ref, version.digest, stage, reason, forced
            )
            project(connection, standing, standing.after(event))
            promoted = versions.update().where(versions.c.event == version.event).values(promoted=True)
            connection.execute(promoted)
            self._announce(RECORDED)
        self._announce(COMMITTED)
        return event

    def roll_back(self, target: str, expect: int, actor: str, at: datetime, reason: str | None) -> Event:
        """Append a rollback of production; see ``Catalog.roll_back``."""
        with self._write() as connection:
            standing = expected(connection, target, expect)
            ref = standing.rollback(target)
            digest = connection.execute(sa.select(versions.c.digest).where(is_ref(ref))).scalar_one()
            event = append(connection, actor, at, ROLLED_BACK, ref, Digest(digest), PRODUCTION, reason)
            project(connection, standing, standing.after(event))
            self._announce(RECORDED)
        self._announce(COMMITTED)
        return event

    def delete(self, version: Version, actor: str, at: datetime, reason: str) -> Event:
        """Append a version's deletion and drop its references."""
        ref = version.ref
        with self._write() as connection:
            lock(connection, ref.target)
            check_live(connection, version)
            standing = standing_of(connection, ref.target)
            if places := standing.stages_of(ref):
                raise VersionInUse(
                    f"{ref} is in {', '.join(places)}; promote another version there, or this one to {RETIRED}"
                )
            if standing.needs(ref):
                raise VersionInUse(
                    f"{ref} is what {ref.target}@{PRODUCTION} can be rolled back to; promote it to {RETIRED} first"
                )
            child = (versions.c.parent == version.digest) & sa.not_(versions.c.deleted)
            if children := fetch(connection, sa.select(versions).where(child)):
                names = ", ".join(str(each.ref) for each in children[:5])
                raise VersionInUse(
                    f"{len(children)} versions were adapted from {ref}: {names}; delete them first"
                )
            event = append(connection, actor, at, DELETED, ref, version.digest, None, reason)
            connection.execute(refs.delete().where(refs.c.version == version.event))
            connection.execute(
                versions.update().where(versions.c.event == version.event).values(deleted=True)
            )
            return event

    # Tokens

    def add_token(self, token: Token) -> None:
        """Store a bearer token."""
        with self._write() as connection:
            keys.add_token(connection, token)

    def revoke_token(self, name: str, actor: str, at: datetime) -> Token:
        """Revoke a bearer token; it stays in the list."""
        with self._write() as connection:
            return keys.revoke_token(connection, name, actor, at)

    def tokens(self) -> Sequence[Token]:
        """Return every bearer token, newest first."""
        with self._read() as connection:
            return keys.every_token(connection)

    def token_changes(self) -> int:
        """Return a number that increases whenever a token is added or revoked."""
        with self._read() as connection:
            return int(connection.execute(keys.CHANGE_COUNT).scalar_one())

    # Garbage

    def unknown(self, digests: Sequence[Digest]) -> Sequence[Digest]:
        """Return the given digests that the catalog does not know."""
        known: set[str] = set()
        with self._read() as connection:
            for some in chunks(list(digests)):
                wanted = sa.select(blobs.c.digest).where(blobs.c.digest.in_(some))
                known |= set(connection.execute(wanted).scalars())
        return [digest for digest in digests if digest not in known]

    def adopt(self, digest: Digest, size: int, at: datetime) -> None:
        """Condemn bytes that the catalog does not know."""
        with self._write() as connection:
            insert_new(
                connection, blobs, digest=digest, kind="unknown", bytes=size, state=CONDEMNED, since=at
            )

    def unneeded(self, at: datetime) -> Sequence[Blob]:
        """Return the unneeded blobs, sorted by digest."""
        wanted = sa.select(blobs).where(*nothing_needs(at)).order_by(blobs.c.digest)
        with self._read() as connection:
            return [blob_of(row) for row in connection.execute(wanted)]

    def condemn(self, digests: Sequence[Digest], at: datetime) -> None:
        """Condemn the given blobs that are still unneeded, and remove expired leases."""
        for some in chunks(sorted(digests)):
            with self._write() as connection:
                among = blobs.c.digest.in_(some)
                locked = sa.select(blobs.c.digest).where(among).order_by(blobs.c.digest).with_for_update()
                connection.execute(locked).all()
                unneeded = blobs.update().where(among, blobs.c.state != CONDEMNED, *nothing_needs(at))
                connection.execute(unneeded.values(state=CONDEMNED, since=at))
        with self._write() as connection:
            connection.execute(leases.delete().where(leases.c.expires <= at))

    def reclaim(self, digest: Digest, at: datetime, before: datetime, delete: Callable[[], None]) -> bool:
        """Delete a blob whose grace period is over, and its row."""
        this = blobs.c.digest == digest
        due = (blobs.c.state == CONDEMNED) & (blobs.c.since <= before)
        with self._write() as connection:
            connection.execute(sa.select(blobs.c.digest).where(this).with_for_update()).all()
            wanted = sa.select(blobs.c.digest).where(this, due, *nothing_needs(at))
            if connection.execute(wanted).one_or_none() is None:
                return False
            # The row lock blocks a new lease on this digest until the bytes are deleted.
            delete()
            for table in (exports, leases, blobs):
                connection.execute(table.delete().where(table.c.digest == digest))
            return True
