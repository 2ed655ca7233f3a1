"""The catalog in a SQL database, on SQLAlchemy Core: a SQLite file, or PostgreSQL.

On SQLite a writing transaction holds the file's write lock from its beginning. On PostgreSQL rows
are locked instead, always in this order, so that nobody waits in a circle: blobs by digest, the
transfer, the target, a version, the counter of events. What a lock guards is looked at in
a statement after it, which sees everything committed before it was granted.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Self

import sqlalchemy as sa

from registry.catalog.catalog import CONDEMNED, LIVE, STAGED, Blob, Catalog, Head
from registry.catalog.engine import explained, faults, insert_new, insert_or_update, open_engine, writing
from registry.catalog.migrations import upgrade
from registry.catalog.schema import (
    blobs,
    counters,
    events,
    exports,
    leases,
    refs,
    stages,
    targets,
    transfers,
    versions,
)
from registry.digests import Digest
from registry.errors import CondemnedBlob, MissingBlob, StaleExpectation, UnknownVersion, VersionInUse
from registry.lifecycle import (
    DELETED,
    PROMOTED,
    REGISTERED,
    ROLLED_BACK,
    STAGE_ACTIONS,
    Event,
    Standing,
    fold,
)
from registry.manifest import Manifest
from registry.names import CANDIDATE, PRODUCTION, RETIRED, Ref, Transfer
from registry.steps import COMMITTED, RECORDED, Announce, ignore
from registry.versions import Query, Version

_MANY = 500
"""Values in one IN list: every database takes that many."""


class SqlCatalog(Catalog):
    """Versions, stages, events and the claims on blobs in a SQL database."""

    def __init__(self, engine: sa.Engine, announce: Announce = ignore) -> None:
        self._reader = engine
        self._writer = writing(engine)
        self._announce = announce

    @classmethod
    def open(cls, url: str, announce: Announce = ignore) -> Self:
        """Open a catalog, made or brought up to the newest schema where it has to be.

        Raises:
            InvalidSetting: the URL cannot be used, or the catalog was written by a newer program.
        """
        engine = open_engine(url)
        try:
            with explained(engine):
                upgrade(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine, announce)

    def close(self) -> None:
        """Let go of every connection."""
        self._reader.dispose()

    @contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with explained(self._reader), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with explained(self._writer), self._writer.begin() as connection:
            yield connection

    # Claims on blobs

    def lease(
        self, holder: str, digest: Digest, at: datetime, expires: datetime, new: tuple[str, int] | None = None
    ) -> Blob | None:
        """Claim a digest; see ``Catalog.lease``."""
        with self._write() as connection:
            row = _claimable(connection, digest, new, at)
            if row is None:
                return None
            insert_or_update(connection, leases, digest=digest, holder=holder, expires=expires)
            blob = _blob(row)
            if blob.state == CONDEMNED:
                kind, size = new or (blob.kind, blob.bytes)
                blob = Blob(digest, kind, size, STAGED, at)
                revived = blobs.update().where(blobs.c.digest == digest)
                connection.execute(revived.values(kind=kind, bytes=size, state=STAGED, since=at))
            return blob

    def confirm(self, digest: Digest, at: datetime) -> None:
        """Say that a leased blob's bytes are there."""
        staged = (blobs.c.digest == digest) & (blobs.c.state == STAGED)
        with self._write() as connection:
            connection.execute(blobs.update().where(staged).values(state=LIVE, since=at))

    def renew(self, holder: str, expires: datetime) -> None:
        """Extend every lease of a holder."""
        with self._write() as connection:
            connection.execute(leases.update().where(leases.c.holder == holder).values(expires=expires))

    def release(self, holder: str) -> None:
        """Give up every lease of a holder."""
        with self._write() as connection:
            connection.execute(leases.delete().where(leases.c.holder == holder))

    def leased(self, digest: Digest, at: datetime) -> bool:
        """Tell whether somebody's lease on a digest runs."""
        running = sa.exists().where((leases.c.digest == digest) & (leases.c.expires > at))
        with self._read() as connection:
            return bool(connection.execute(sa.select(running)).scalar_one())

    def export(self, weights: Digest) -> Digest | None:
        """Return the segment that weights were exported to before."""
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
            _check_claims(connection, holder, {digest for _, digest in needed})
            number = _next_number(connection, manifest.transfer)
            live = (versions.c.digest == manifest.digest) & sa.not_(versions.c.deleted)
            if existing := _versions(connection, sa.select(versions).where(live)):
                return existing[0]
            target = manifest.transfer.target
            insert_new(connection, targets, name=target, seq=0, hash=None, stage_event=0)
            _lock(connection, target)
            _check_parent(connection, manifest.origin.parent)
            connection.execute(
                transfers.update().where(_is(manifest.transfer)).values(next_number=number + 1)
            )
            ref = Ref.of(manifest.transfer, number)
            event = _append(connection, actor, at, REGISTERED, ref, manifest.digest, CANDIDATE)
            row = _row(manifest, number, event)
            connection.execute(versions.insert().values(**row))
            connection.execute(
                refs.insert(),
                [{"version": event.id, "digest": digest, "kind": kind} for kind, digest in needed],
            )
            _remember(connection, exports)
            (version,) = _versions(connection, sa.select(versions).where(versions.c.event == event.id))
            self._announce(RECORDED)
        self._announce(COMMITTED)
        return version

    def find(self, query: Query, limit: int, before: int | None = None) -> Sequence[Version]:
        """Return versions that a query lets through, the last registered first."""
        wanted = sa.select(versions).where(*_conditions(query)).order_by(versions.c.event.desc()).limit(limit)
        if before is not None:
            wanted = wanted.where(versions.c.event < before)
        with self._read() as connection:
            return _versions(connection, wanted)

    def tombstone(self, ref: Ref) -> Event | None:
        """Return the event that deleted a version."""
        wanted = (
            sa.select(events)
            .where(events.c.target == ref.target, events.c.source == ref.source)
            .where(events.c.number == ref.number, events.c.action == DELETED)
        )
        with self._read() as connection:
            row = connection.execute(wanted).one_or_none()
        return None if row is None else _event(row)

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
        """Return every target that a version was ever registered for, sorted."""
        with self._read() as connection:
            return sorted(connection.execute(sa.select(targets.c.name)).scalars())

    def position(self) -> int:
        """Return the id of the last event of all."""
        with self._read() as connection:
            return int(connection.execute(_EVENT_COUNT).scalar_one())

    def events(self, target: str, until: datetime | None = None) -> Sequence[Event]:
        """Return a target's events, oldest first."""
        wanted = sa.select(events).where(events.c.target == target).order_by(events.c.seq)
        if until is not None:
            wanted = wanted.where(events.c.at <= until)
        with self._read() as connection:
            return [_event(row) for row in connection.execute(wanted)]

    def standing(self, target: str) -> Standing:
        """Return where a target's versions stand."""
        with self._read() as connection:
            return _standing(connection, target)

    def head(self, target: str) -> Head:
        """Return the end of a target's chain as it was noted beside it."""
        wanted = sa.select(targets.c.seq, targets.c.hash).where(targets.c.name == target)
        with self._read() as connection:
            row = connection.execute(wanted).one_or_none()
        return Head(0, None) if row is None else Head(row.seq, row.hash and Digest(row.hash))

    def faults(self) -> Sequence[str]:
        """Return what the database finds wrong with itself."""
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
            standing = _expected(connection, version.target, expect)
            _check_live(connection, version)
            event = _append(
                connection, actor, at, PROMOTED, version.ref, version.digest, stage, reason, forced
            )
            _project(connection, standing, standing.after(event))
            promoted = versions.update().where(versions.c.event == version.event).values(promoted=True)
            connection.execute(promoted)
            self._announce(RECORDED)
        self._announce(COMMITTED)
        return event

    def roll_back(self, target: str, expect: int, actor: str, at: datetime, reason: str | None) -> Event:
        """Append a rollback of production; see ``Catalog.roll_back``."""
        with self._write() as connection:
            standing = _expected(connection, target, expect)
            ref = standing.rollback(target)
            digest = connection.execute(sa.select(versions.c.digest).where(_names(ref))).scalar_one()
            event = _append(connection, actor, at, ROLLED_BACK, ref, Digest(digest), PRODUCTION, reason)
            _project(connection, standing, standing.after(event))
            self._announce(RECORDED)
        self._announce(COMMITTED)
        return event

    def delete(self, version: Version, actor: str, at: datetime, reason: str) -> Event:
        """Append a version's deletion and drop its references."""
        ref = version.ref
        with self._write() as connection:
            _lock(connection, ref.target)
            _check_live(connection, version)
            standing = _standing(connection, ref.target)
            if places := standing.stages_of(ref):
                raise VersionInUse(
                    f"{ref} is in {', '.join(places)}; promote another version there, or this one to {RETIRED}"
                )
            if standing.needs(ref):
                raise VersionInUse(
                    f"{ref} is what {ref.target}@{PRODUCTION} can be rolled back to; promote it to {RETIRED} first"
                )
            child = (versions.c.parent == version.digest) & sa.not_(versions.c.deleted)
            if children := _versions(connection, sa.select(versions).where(child)):
                names = ", ".join(str(each.ref) for each in children[:5])
                raise VersionInUse(
                    f"{len(children)} versions were carried over from {ref}: {names}; delete them first"
                )
            event = _append(connection, actor, at, DELETED, ref, version.digest, None, reason)
            connection.execute(refs.delete().where(refs.c.version == version.event))
            connection.execute(
                versions.update().where(versions.c.event == version.event).values(deleted=True)
            )
            return event

    # Garbage

    def unknown(self, digests: Sequence[Digest]) -> Sequence[Digest]:
        """Return those of some digests that the catalog does not know."""
        known: set[str] = set()
        with self._read() as connection:
            for some in _chunks(list(digests)):
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
        """Return the blobs that nothing needs, sorted by digest."""
        wanted = sa.select(blobs).where(*_nothing_needs(at)).order_by(blobs.c.digest)
        with self._read() as connection:
            return [_blob(row) for row in connection.execute(wanted)]

    def condemn(self, digests: Sequence[Digest], at: datetime) -> None:
        """Condemn those of some blobs that are still unneeded, and drop the leases that have expired."""
        for some in _chunks(sorted(digests)):
            with self._write() as connection:
                among = blobs.c.digest.in_(some)
                locked = sa.select(blobs.c.digest).where(among).order_by(blobs.c.digest).with_for_update()
                connection.execute(locked).all()
                unneeded = blobs.update().where(among, blobs.c.state != CONDEMNED, *_nothing_needs(at))
                connection.execute(unneeded.values(state=CONDEMNED, since=at))
        with self._write() as connection:
            connection.execute(leases.delete().where(leases.c.expires <= at))

    def reclaim(self, digest: Digest, at: datetime, before: datetime, delete: Callable[[], None]) -> bool:
        """Delete a blob that was condemned long enough ago, and forget it."""
        this = blobs.c.digest == digest
        due = (blobs.c.state == CONDEMNED) & (blobs.c.since <= before)
        with self._write() as connection:
            connection.execute(sa.select(blobs.c.digest).where(this).with_for_update()).all()
            wanted = sa.select(blobs.c.digest).where(this, due, *_nothing_needs(at))
            if connection.execute(wanted).one_or_none() is None:
                return False
            # Whoever wants to lease this digest waits for the row until the bytes are gone.
            delete()
            for table in (exports, leases, blobs):
                connection.execute(table.delete().where(table.c.digest == digest))
            return True


_EVENT_COUNT = sa.select(counters.c.value).where(counters.c.name == "events")


def _is(transfer: Transfer) -> sa.ColumnElement[bool]:
    return (transfers.c.source == transfer.source) & (transfers.c.target == transfer.target)


def _names(ref: Ref) -> sa.ColumnElement[bool]:
    return (
        (versions.c.source == ref.source)
        & (versions.c.target == ref.target)
        & (versions.c.number == ref.number)
    )


def _nothing_needs(at: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        ~sa.exists().where(refs.c.digest == blobs.c.digest),
        ~sa.exists().where((leases.c.digest == blobs.c.digest) & (leases.c.expires > at)),
    )


def _conditions(query: Query) -> Iterator[sa.ColumnElement[bool]]:
    yield sa.not_(versions.c.deleted)
    for name in ("source", "target", "technique", "number", "parent"):
        if (value := getattr(query, name)) is not None:
            yield versions.c[name] == value
    if query.digest is not None:
        yield versions.c.digest.startswith(query.digest, autoescape=True)
    here = sa.exists().where(stages.c.version == versions.c.event)
    match query.stage:
        case None:
            pass
        case "candidate":
            yield sa.not_(versions.c.promoted)
        case "retired":
            yield versions.c.promoted & ~here
        case stage:
            yield versions.c.event.in_(sa.select(stages.c.version).where(stages.c.stage == stage))


def _claimable(
    connection: sa.Connection, digest: Digest, new: tuple[str, int] | None, at: datetime
) -> sa.Row[Any] | None:
    """Lock a blob's row, made where it is not and the blob is a new one."""
    locked = sa.select(blobs).where(blobs.c.digest == digest).with_for_update()
    while True:
        if new is not None:
            kind, size = new
            insert_new(connection, blobs, digest=digest, kind=kind, bytes=size, state=STAGED, since=at)
        row = connection.execute(locked).one_or_none()
        # On PostgreSQL the row may go between the two, while it is waited for: it was being reclaimed.
        if row is not None or new is None:
            return row


def _check_claims(connection: sa.Connection, holder: str, needed: set[Digest]) -> None:
    """Lock the blobs and check that each is live and leased by the holder."""
    found: dict[str, str] = {}
    held: set[str] = set()
    for some in _chunks(sorted(needed)):
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


def _check_parent(connection: sa.Connection, parent: Digest | None) -> None:
    if parent is None:
        return
    there = (versions.c.digest == parent) & sa.not_(versions.c.deleted)
    if not connection.execute(sa.select(versions.c.event).where(there).with_for_update()).all():
        raise UnknownVersion(f"expected the parent {parent} to be registered, it is not; register it first")


def _check_live(connection: sa.Connection, version: Version) -> None:
    there = sa.select(versions.c.deleted).where(versions.c.event == version.event).with_for_update()
    if connection.execute(there).scalar() is not False:
        raise UnknownVersion(f"expected a registered version, {version.ref} was deleted")


def _next_number(connection: sa.Connection, transfer: Transfer) -> int:
    """Lock a transfer's counter and read it."""
    insert_new(connection, transfers, source=transfer.source, target=transfer.target, next_number=1)
    locked = sa.select(transfers.c.next_number).where(_is(transfer)).with_for_update()
    return int(connection.execute(locked).scalar_one())


def _expected(connection: sa.Connection, target: str, expect: int) -> Standing:
    """Lock a target and check that its stages did not move."""
    _lock(connection, target)
    standing = _standing(connection, target)
    if standing.event != expect:
        raise StaleExpectation(
            f"expected the last stage event of {target} to be {expect or 'none'}, it is {standing.event or 'none'}: "
            "somebody else moved it; look again, then repeat"
        )
    return standing


def _lock(connection: sa.Connection, target: str) -> None:
    """Keep everybody else from appending to a target's chain until the transaction ends."""
    connection.execute(sa.select(targets.c.name).where(targets.c.name == target).with_for_update()).all()


def _standing(connection: sa.Connection, target: str) -> Standing:
    moves = (
        sa.select(events)
        .where(events.c.target == target, events.c.action.in_(STAGE_ACTIONS))
        .order_by(events.c.seq)
    )
    return fold(_event(row) for row in connection.execute(moves))


def _append(
    connection: sa.Connection,
    actor: str,
    at: datetime,
    action: str,
    ref: Ref,
    digest: Digest,
    stage: str | None,
    reason: str | None = None,
    forced: bool = False,
) -> Event:
    """Append an event to the chain of its target, which is locked, and note the new end beside it."""
    last = connection.execute(
        sa.select(events).where(events.c.target == ref.target).order_by(events.c.seq.desc()).limit(1)
    ).one_or_none()
    counter = counters.update().where(counters.c.name == "events").values(value=counters.c.value + 1)
    event = Event.after(
        None if last is None else _event(last),
        id=int(connection.execute(counter.returning(counters.c.value)).scalar_one()),
        at=at,
        actor=actor,
        action=action,
        ref=ref,
        digest=digest,
        stage=stage,
        reason=reason,
        forced=forced,
    )
    connection.execute(
        events.insert().values(
            id=event.id,
            target=event.target,
            seq=event.seq,
            at=event.at,
            actor=event.actor,
            action=event.action,
            source=event.ref.source,
            number=event.ref.number,
            digest=event.digest,
            stage=event.stage,
            reason=event.reason,
            forced=event.forced,
            previous=event.previous,
            hash=event.hash,
        )
    )
    end: dict[str, object] = {"seq": event.seq, "hash": event.hash}
    if event.moves_stage:
        end["stage_event"] = event.id
    connection.execute(targets.update().where(targets.c.name == ref.target).values(**end))
    return event


def _project(connection: sa.Connection, old: Standing, new: Standing) -> None:
    """Bring the searchable stages of a target from one standing to the next."""
    for stage in sorted(set(old.stages) | set(new.stages)):
        ref = new.stages.get(stage)
        if ref == old.stages.get(stage):
            continue
        target = (ref or old.stages[stage]).target
        if ref is None:
            gone = (stages.c.target == target) & (stages.c.stage == stage)
            connection.execute(stages.delete().where(gone))
        else:
            event = connection.execute(sa.select(versions.c.event).where(_names(ref))).scalar_one()
            insert_or_update(connection, stages, target=target, stage=stage, version=event)


def _remember(connection: sa.Connection, exported: Mapping[Digest, Digest]) -> None:
    for weights, digest in sorted(exported.items()):
        insert_or_update(connection, exports, weights=weights, digest=digest)


def _row(manifest: Manifest, number: int, event: Event) -> dict[str, object]:
    return {
        "event": event.id,
        "digest": manifest.digest,
        "source": manifest.transfer.source,
        "target": manifest.transfer.target,
        "number": number,
        "technique": manifest.technique.name,
        "kind": manifest.kind,
        "metrics": dict(manifest.metrics),
        "space_id": manifest.space_id,
        "parent": manifest.origin.parent,
        "created_at": event.at,
        "promoted": False,
        "deleted": False,
    }


def _versions(connection: sa.Connection, wanted: sa.Select[Any]) -> list[Version]:
    rows = connection.execute(wanted).all()
    places: dict[int, list[str]] = {row.event: [] for row in rows}
    for some in _chunks(list(places)):
        for event, stage in connection.execute(
            sa.select(stages.c.version, stages.c.stage)
            .where(stages.c.version.in_(some))
            .order_by(stages.c.stage)
        ):
            places[event].append(stage)
    return [_version(row, places[row.event]) for row in rows]


def _version(row: sa.Row[Any], places: list[str]) -> Version:
    return Version(
        event=row.event,
        digest=Digest(row.digest),
        transfer=Transfer(row.source, row.target),
        number=row.number,
        technique=row.technique,
        kind=row.kind,
        stages=tuple(places) or ((RETIRED if row.promoted else CANDIDATE),),
        metrics=row.metrics,
        space_id=row.space_id and Digest(row.space_id),
        parent=row.parent and Digest(row.parent),
        created_at=row.created_at,
    )


def _event(row: sa.Row[Any]) -> Event:
    return Event(
        id=row.id,
        target=row.target,
        seq=row.seq,
        at=row.at,
        actor=row.actor,
        action=row.action,
        ref=Ref.of(Transfer(row.source, row.target), row.number),
        digest=Digest(row.digest),
        stage=row.stage,
        reason=row.reason,
        forced=row.forced,
        previous=row.previous and Digest(row.previous),
        hash=Digest(row.hash),
    )


def _blob(row: sa.Row[Any]) -> Blob:
    return Blob(Digest(row.digest), row.kind, row.bytes, row.state, row.since)


def _chunks(values: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(values), _MANY):
        yield values[start : start + _MANY]
