"""All differences between the databases: connections, transactions, upserts."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from registry.errors import DamagedCatalog, InvalidSetting, MissingCatalog, ReadOnlyRegistry, StorageFailure
from registry.extras import POSTGRES
from registry.locations import file_url, sqlite_path
from registry.modes import file_mode, folder_mode, may_write, new_file, new_folder
from registry.quoting import quoted

_BUSY_TIMEOUT_S = 60
_READ_TIMEOUT_S = 2
_WRITES = "writes"
_READS_ONLY = "reads_only"
_SEEN = "seen"
_FILE = "file"
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PATIENCE = {
    "connect_timeout": 10, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}  # fmt: skip
"""Options of libpq, in seconds and (the last) milliseconds; its defaults are the system's: minutes or hours."""
_ANSWER_TIMEOUT = "answer_timeout"
"""Option of a URL: the seconds for which a connected server may send nothing during a statement."""
_ANSWER_TIMEOUT_S = 30.0
_FORBIDDEN = ("42501", "25006")
"""SQLSTATEs: insufficient privilege, read-only transaction."""
_MAY_WRITE = sa.text(
    "SELECT NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off' "
    "AND (to_regclass('counters') IS NULL OR has_table_privilege('counters', 'UPDATE'))"
)
_MANY = 500
"""Most values in one IN list; every database accepts this many."""


def open_engine(url: str, *, shared: bool = False, make: bool = True) -> sa.Engine:
    """Open a pool of connections to a SQLite file or a PostgreSQL database.

    Args:
        url: the catalog's URL.
        shared: whether the group may read and write a new file and its new folder.
        make: whether to create a missing SQLite file.

    Raises:
        InvalidSetting: the URL is invalid, or the file can be neither read nor created.
        MissingCatalog: there is no file, and ``make`` is false.
        MissingExtra: the database's driver is not installed.
    """
    if url.startswith("sqlite:"):
        return _open_sqlite(sqlite_path(url), folder_mode(shared), make=make)
    try:
        parsed = sa.make_url(url)
        POSTGRES.require("a postgresql+psycopg:// catalog")
        return _open_postgresql(parsed)
    except sa.exc.ArgumentError as error:
        raise InvalidSetting(f"a catalog is sqlite:///… or postgresql+psycopg://…: {error}") from error


def _open_postgresql(url: sa.URL) -> sa.Engine:
    from registry.catalog.connection import PatientConnection

    # Without timeouts, a host that vanishes or hangs without closing the connection would block forever.
    patience = {name: value for name, value in _PATIENCE.items() if name not in url.query}
    patience_s = _seconds(url.query.get(_ANSWER_TIMEOUT, str(_ANSWER_TIMEOUT_S)))
    engine = sa.create_engine(
        url.difference_update_query([_ANSWER_TIMEOUT]), pool_pre_ping=True, connect_args=patience
    )

    @sa.event.listens_for(engine, "do_connect")
    def connect(
        dialect: Any, record: Any, arguments: list[Any], options: dict[str, Any]
    ) -> PatientConnection:
        connection = PatientConnection.connect(*arguments, **options)
        connection.patience_s = patience_s
        return connection

    return engine


def _seconds(text: object) -> float:
    try:
        seconds = float(str(text))
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 3600:
        raise InvalidSetting(f"{_ANSWER_TIMEOUT}: expected 1 to 3600 seconds, got {quoted(str(text))}")
    return seconds


def check_writable(engine: sa.Engine) -> None:
    """Check that a catalog may be written to.

    Raises:
        ReadOnlyRegistry: this account may not write to it.
    """
    if engine.dialect.name == "sqlite":
        if _READS_ONLY in engine.get_execution_options():
            raise _read_only(engine)
        return
    with explained(engine), engine.connect() as connection:
        if not connection.execute(_MAY_WRITE).scalar():
            raise _read_only(engine)


def writing(engine: sa.Engine) -> sa.Engine:
    """Return the engine for transactions that will write.

    On SQLite these take the write lock at their beginning. A transaction that starts by reading cannot wait
    for the lock: it fails as soon as another one has written.
    """
    return engine.execution_options(**{_WRITES: True})


@contextmanager
def explained(engine: sa.Engine) -> Iterator[None]:
    """Turn failures of the database, but not errors in our statements, into ``StorageFailure``."""
    try:
        yield
    except sa.exc.IntegrityError:
        raise
    except (sa.exc.NoResultFound, UnicodeDecodeError) as error:
        raise _damaged(engine, error) from error
    except (sa.exc.DatabaseError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
        cause = getattr(error, "orig", None) or error
        if getattr(cause, "sqlstate", None) in _FORBIDDEN or getattr(
            cause, "sqlite_errorname", ""
        ).startswith("SQLITE_READONLY"):
            raise _read_only(engine) from error
        if getattr(cause, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            raise _damaged(engine, cause) from error
        if isinstance(error, sa.exc.ProgrammingError):
            raise
        raise StorageFailure(f"expected the catalog {where(engine)} to answer, it failed: {cause}") from error


def _damaged(engine: sa.Engine, cause: object) -> DamagedCatalog:
    return DamagedCatalog(
        f"expected the catalog {where(engine)} to be in order, it is damaged ({cause}); restore it from a copy, "
        "'cultivar doctor' checks it"
    )


def _read_only(engine: sa.Engine) -> ReadOnlyRegistry:
    return ReadOnlyRegistry(
        f"expected to write to the catalog {where(engine)}, this account may only read it; use one that may write there"
    )


def where(engine: sa.Engine) -> str:
    """Return a catalog's location for messages: a file's path, or a URL without its password."""
    url = engine.url
    return str(url.database) if engine.dialect.name == "sqlite" else url.render_as_string(hide_password=True)


def insert_new(connection: sa.Connection, table: sa.Table, **values: object) -> None:
    """Insert a row unless its key exists."""
    insert = _insert(connection, table).values(**values)
    connection.execute(insert.on_conflict_do_nothing())


def insert_or_update(connection: sa.Connection, table: sa.Table, **values: object) -> None:
    """Insert a row, or update the row with the same primary key."""
    key = [column.name for column in table.primary_key]
    insert = _insert(connection, table).values(**values)
    rest = {name: value for name, value in values.items() if name not in key}
    connection.execute(insert.on_conflict_do_update(index_elements=key, set_=rest))


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)


def chunks(values: list[Any]) -> Iterator[list[Any]]:
    """Yield values in chunks that fit into one IN list."""
    for start in range(0, len(values), _MANY):
        yield values[start : start + _MANY]


def exclude_migrations(connection: sa.Connection) -> None:
    """Take the migration lock; it is held until the transaction ends."""
    if connection.dialect.name == "postgresql":
        # An arbitrary number that other programs are unlikely to lock. On SQLite the write lock is enough.
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(7218001)"))


def faults(connection: sa.Connection) -> list[str]:
    """Return the problems that SQLite finds in its file; a server's database is not checked."""
    if connection.dialect.name != "sqlite":
        return []
    found = [str(row[0]) for row in connection.execute(sa.text("PRAGMA integrity_check"))]
    found += [f"foreign key of {row[0]}" for row in connection.execute(sa.text("PRAGMA foreign_key_check"))]
    return [fault for fault in found if fault != "ok"]


def _open_sqlite(path: Path, mode: int, *, make: bool) -> sa.Engine:
    try:
        if path.exists() and not (may_write(path) and may_write(path.parent)):
            return _open_sqlite_for_reading(path)
        if not path.exists():
            if not make:
                raise _not_there(path)
            new_folder(path.parent, mode)
            new_file(path, file_mode(mode))
    except OSError as error:
        raise InvalidSetting(
            f"expected a catalog at {path}, there is none and it cannot be made: {error.strerror}; name another home, "
            "or use an account that may write there"
        ) from error
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        creator=partial(_connect, path),
        # With a creator SQLAlchemy does not know that this is a file.
        poolclass=sa.QueuePool,
    )
    sa.event.listen(engine, "connect", partial(_set_up_sqlite, path))
    sa.event.listen(engine, "checkout", partial(_check_in_place, path))
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _connect(path: Path) -> sqlite3.Connection:
    """Connect to an existing file. A file that has since vanished is not recreated, as it would be empty."""
    if not path.exists():
        raise _not_there(path)
    return sqlite3.connect(
        f"{file_url(path)}?mode=rw", uri=True, timeout=_BUSY_TIMEOUT_S, check_same_thread=False
    )


def _not_there(path: Path) -> MissingCatalog:
    return MissingCatalog(
        f"expected a catalog at {path}, there is none; restore it from a copy, or name another home"
    )


def _check_in_place(path: Path, _connection: Any, record: Any, _proxy: Any) -> None:
    """Discard a connection whose file was deleted or replaced; its changes would be invisible to others."""
    if record.info[_FILE] != _file(path):
        raise sa.exc.DisconnectionError(f"{path} is another file than it was")


def _file(path: Path) -> tuple[int, int] | None:
    """Return the identity of a file, which a replacement does not share, or None if there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _open_sqlite_for_reading(path: Path) -> sa.Engine:
    """Open a file in read-only mode, because this account may not write to it or to its folder.

    SQLite reads a file in write-ahead mode together with two files that it creates beside it. If a writer has
    created them, they are used as usual. Otherwise nobody is writing at this moment, and the file is
    complete. But this account cannot create the two files, so the catalog has to be opened as ``immutable``.
    SQLite then takes no locks and sees no changes, and a concurrent write would give wrong results. Therefore
    each transaction uses its own connection and fails if the file has changed by its end.
    """
    if not os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids):
        raise InvalidSetting(f"expected to read the catalog {path}, this account may not; use one that may")
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        creator=partial(_connect_for_reading, path),
        poolclass=sa.NullPool,
        execution_options={_READS_ONLY: True},
    )
    sa.event.listen(engine, "connect", partial(_set_up_reading, path))
    sa.event.listen(engine, "begin", _begin_sqlite)
    sa.event.listen(engine, "commit", partial(_check_unchanged, path))
    return engine


def _connect_for_reading(path: Path) -> sqlite3.Connection:
    """Connect in the mode that fits the files beside the catalog at this moment."""
    deadline = time.monotonic() + _READ_TIMEOUT_S
    while True:
        if not path.exists():
            raise _not_there(path)
        options = "mode=ro" if _is_written(path) else "mode=ro&immutable=1"
        connection = sqlite3.connect(
            f"{file_url(path)}?{options}", uri=True, timeout=_BUSY_TIMEOUT_S, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA schema_version")
        except sqlite3.OperationalError as error:
            connection.close()
            if error.sqlite_errorname != "SQLITE_CANTOPEN" and "READONLY" not in error.sqlite_errorname:
                raise
            # A writer started or stopped in between.
            if time.monotonic() > deadline:
                raise ReadOnlyRegistry(
                    f"expected to read the catalog {path}, beside it lies {path.name}-wal with changes that this "
                    "account may not take in; open the registry once with an account that may write there"
                ) from error
            time.sleep(0.02)
        else:
            return connection


def _is_written(path: Path) -> bool:
    """Tell whether there are changes beside a catalog, or may be at any moment."""
    try:
        return Path(f"{path}-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


def _set_up_reading(path: Path, connection: Any, record: Any) -> None:
    connection.isolation_level = None
    record.info[_SEEN] = None if _is_written(path) else _state(path)


def _check_unchanged(path: Path, connection: sa.Connection) -> None:
    seen = connection.info.get(_SEEN)
    if seen is not None and (_is_written(path) or _state(path) != seen):
        raise StorageFailure(f"the catalog {path} was written to while it was read; try again")


def _state(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _set_up_sqlite(path: Path, connection: Any, record: Any) -> None:
    record.info[_FILE] = _file(path)
    connection.isolation_level = None  # otherwise the driver starts transactions itself, and late
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA synchronous = FULL")
    _set_journal(cursor)
    cursor.close()


def _set_journal(cursor: Any) -> None:
    """Switch to write-ahead logging, which is a property of the file.

    SQLite does not always wait for other connections during the switch, so it is retried.
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
    if writes and _READS_ONLY in connection.get_execution_options():
        raise _read_only(connection.engine)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
