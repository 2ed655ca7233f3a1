"""What differs between the databases: connections, transactions, upserts. Nothing else may."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from registry.errors import InvalidSetting, StorageFailure
from registry.extras import POSTGRES
from registry.locations import sqlite_path

_BUSY_TIMEOUT_S = 60
_WRITES = "writes"
_MANY = 500
"""Values in one IN list: every database takes that many."""


def open_engine(url: str) -> sa.Engine:
    """Open a pool of connections to a SQLite file (made where it is not) or a PostgreSQL database.

    Raises:
        InvalidSetting: the URL cannot be read.
        MissingExtra: the database's driver is not installed.
    """
    if url.startswith("sqlite:"):
        return _open_sqlite(sqlite_path(url))
    try:
        parsed = sa.make_url(url)
        POSTGRES.require("a postgresql+psycopg:// catalog")
        return sa.create_engine(parsed, pool_pre_ping=True)
    except sa.exc.ArgumentError as error:
        raise InvalidSetting(f"a catalog is sqlite:///… or postgresql+psycopg://…: {error}") from error


def writing(engine: sa.Engine) -> sa.Engine:
    """Return the engine for transactions that will write.

    SQLite gives those the write lock at their beginning: one that began by reading could not wait
    for it, but would fail as soon as another had written.
    """
    return engine.execution_options(**{_WRITES: True})


@contextmanager
def explained(engine: sa.Engine) -> Iterator[None]:
    """Turn what goes wrong with the database, not with our statements, into a ``StorageFailure``."""
    try:
        yield
    except (sa.exc.IntegrityError, sa.exc.ProgrammingError):
        raise
    except (sa.exc.DatabaseError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
        cause = getattr(error, "orig", None) or error
        raise StorageFailure(f"expected the catalog {where(engine)} to answer, it failed: {cause}") from error


def where(engine: sa.Engine) -> str:
    """Return where a catalog is, for people: a file's path, or a URL without its password."""
    url = engine.url
    return str(url.database) if engine.dialect.name == "sqlite" else url.render_as_string(hide_password=True)


def insert_new(connection: sa.Connection, table: sa.Table, **values: object) -> None:
    """Insert a row, or leave the one that has its key as it is."""
    insert = _insert(connection, table).values(**values)
    connection.execute(insert.on_conflict_do_nothing())


def insert_or_update(connection: sa.Connection, table: sa.Table, **values: object) -> None:
    """Insert a row, or give the one that has its primary key these values."""
    key = [column.name for column in table.primary_key]
    insert = _insert(connection, table).values(**values)
    rest = {name: value for name, value in values.items() if name not in key}
    connection.execute(insert.on_conflict_do_update(index_elements=key, set_=rest))


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)


def chunks(values: list[Any]) -> Iterator[list[Any]]:
    """Yield values in lists short enough for one IN list."""
    for start in range(0, len(values), _MANY):
        yield values[start : start + _MANY]


def exclude_migrations(connection: sa.Connection) -> None:
    """Wait until no other process migrates, and keep others from it until the transaction ends."""
    if connection.dialect.name == "postgresql":
        # An arbitrary number that no other program is likely to lock; on SQLite the write lock does it.
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(7218001)"))


def faults(connection: sa.Connection) -> list[str]:
    """Return what the database itself finds wrong with its file; a server looks after its own."""
    if connection.dialect.name != "sqlite":
        return []
    found = [str(row[0]) for row in connection.execute(sa.text("PRAGMA integrity_check"))]
    found += [f"foreign key of {row[0]}" for row in connection.execute(sa.text("PRAGMA foreign_key_check"))]
    return [fault for fault in found if fault != "ok"]


def _open_sqlite(path: Path) -> sa.Engine:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSetting(
            f"the catalog's folder {path.parent} cannot be made: {error.strerror}"
        ) from error
    url = sa.URL.create("sqlite", database=str(path))
    engine = sa.create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S})
    sa.event.listen(engine, "connect", _set_up_sqlite)
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin transactions late, and on its own
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = FULL")
    _set_journal(cursor)
    cursor.close()


def _set_journal(cursor: Any) -> None:
    """Switch to write-ahead logging, which stays with the file.

    SQLite does not always wait for others while it switches, so it is asked again.
    """
    deadline = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except Exception as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
