"""Version rows: numbers, checks, searches and stages. Every function runs in the caller's transaction."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from registry.catalog.engine import chunks, insert_new, insert_or_update
from registry.catalog.schema import stages, transfers, versions
from registry.digests import Digest
from registry.errors import UnknownVersion
from registry.lifecycle import Event, Standing
from registry.manifest import Manifest
from registry.names import CANDIDATE, RETIRED, Ref, Transfer
from registry.versions import Query, Version


def next_number(connection: sa.Connection, transfer: Transfer) -> int:
    """Lock a transfer's version counter and read it."""
    insert_new(connection, transfers, source=transfer.source, target=transfer.target, next_number=1)
    locked = sa.select(transfers.c.next_number).where(is_transfer(transfer)).with_for_update()
    return int(connection.execute(locked).scalar_one())


def is_transfer(transfer: Transfer) -> sa.ColumnElement[bool]:
    """Return the condition that picks a transfer's row."""
    return (transfers.c.source == transfer.source) & (transfers.c.target == transfer.target)


def is_ref(ref: Ref) -> sa.ColumnElement[bool]:
    """Return the condition that picks a version's row."""
    return (
        (versions.c.source == ref.source)
        & (versions.c.target == ref.target)
        & (versions.c.number == ref.number)
    )


def check_parent(connection: sa.Connection, parent: Digest | None) -> None:
    """Lock the parent of a version and check that it is registered.

    Raises:
        UnknownVersion: the parent is not registered.
    """
    if parent is None:
        return
    there = (versions.c.digest == parent) & sa.not_(versions.c.deleted)
    if not connection.execute(sa.select(versions.c.event).where(there).with_for_update()).all():
        raise UnknownVersion(f"expected the parent {parent} to be registered, it is not; register it first")


def check_live(connection: sa.Connection, version: Version) -> None:
    """Lock a version and check that it was not deleted.

    Raises:
        UnknownVersion: the version was deleted.
    """
    there = sa.select(versions.c.deleted).where(versions.c.event == version.event).with_for_update()
    if connection.execute(there).scalar() is not False:
        raise UnknownVersion(f"expected a registered version, {version.ref} was deleted")


def conditions(query: Query) -> Iterator[sa.ColumnElement[bool]]:
    """Yield the conditions that a query puts on rows of ``versions``."""
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


def row_of(manifest: Manifest, number: int, event: Event) -> dict[str, object]:
    """Return the row of a version that is registered now."""
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


def fetch(connection: sa.Connection, wanted: sa.Select[Any]) -> list[Version]:
    """Return the versions that a selection from ``versions`` finds, each with its stages."""
    rows = connection.execute(wanted).all()
    places: dict[int, list[str]] = {row.event: [] for row in rows}
    for some in chunks(list(places)):
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


def project(connection: sa.Connection, old: Standing, new: Standing) -> None:
    """Update the searchable stages of a target from one standing to the next."""
    for stage in sorted(set(old.stages) | set(new.stages)):
        ref = new.stages.get(stage)
        if ref == old.stages.get(stage):
            continue
        target = (ref or old.stages[stage]).target
        if ref is None:
            gone = (stages.c.target == target) & (stages.c.stage == stage)
            connection.execute(stages.delete().where(gone))
        else:
            event = connection.execute(sa.select(versions.c.event).where(is_ref(ref))).scalar_one()
            insert_or_update(connection, stages, target=target, stage=stage, version=event)
