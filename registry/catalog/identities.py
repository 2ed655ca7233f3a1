"""The identity and location of a catalog. Every function runs in the caller's transaction."""

from pathlib import Path

import sqlalchemy as sa

from registry.catalog.catalog import CatalogIdentity
from registry.catalog.schema import events, identity
from registry.digests import Digest
from registry.locations import marks_of

_LAST = sa.select(events.c.id, events.c.hash).order_by(events.c.id.desc()).limit(1)
_SERVER = sa.text("SELECT system_identifier FROM pg_control_system()")
_DATABASE = sa.text("SELECT oid FROM pg_database WHERE datname = current_database()")


def read_identity(connection: sa.Connection) -> CatalogIdentity:
    """Return the registry's identity: its id, epoch and last event."""
    row = connection.execute(sa.select(identity)).one()
    last = connection.execute(_LAST).one_or_none()
    if last is None:
        return CatalogIdentity(row.id, row.epoch, 0, None)
    return CatalogIdentity(row.id, row.epoch, last.id, Digest(last.hash))


def hash_of_event(connection: sa.Connection, event: int) -> Digest | None:
    """Return the hash of the event with an id, or None."""
    found = connection.execute(sa.select(events.c.hash).where(events.c.id == event)).scalar()
    return None if found is None else Digest(found)


def place_of(connection: sa.Connection) -> frozenset[str]:
    """Return the marks that distinguish the catalog from its copies.

    A PostgreSQL database that was dumped and restored has another number, or lies on another server. A
    promoted replica of a whole server has the same marks as the original, so it cannot be distinguished.
    """
    if connection.dialect.name == "sqlite":
        return marks_of(Path(str(connection.engine.url.database)))
    server = connection.execute(_SERVER).scalar_one()
    database = connection.execute(_DATABASE).scalar_one()
    return frozenset({f"postgresql {server}, database {database}"})
