"""The catalog's migrations, and the code that runs them."""

from pathlib import Path

import sqlalchemy as sa

from registry.catalog.engine import check_writable, exclude_migrations, writing
from registry.catalog.schema import REVISION
from registry.errors import InvalidSetting, ReadOnlyRegistry


def upgrade(engine: sa.Engine) -> None:
    """Migrate a catalog to the newest schema. Several processes may do this at the same time.

    Raises:
        InvalidSetting: the catalog was written by a newer program.
        ReadOnlyRegistry: the catalog is older, and this account may not write to it.
    """
    found = current(engine)
    if found == REVISION:
        return
    try:
        check_writable(engine)
    except ReadOnlyRegistry as error:
        at = f"at migration {found}" if found else "empty"
        raise ReadOnlyRegistry(
            f"expected a catalog at migration {REVISION}, it is {at} and has to be brought up to date: {error}"
        ) from error
    with writing(engine).begin() as connection:
        exclude_migrations(connection)
        if _revision(connection) != REVISION:
            migrate(connection, REVISION)


def current(engine: sa.Engine) -> str | None:
    """Return a catalog's current migration, or None for an empty database."""
    with engine.connect() as connection:
        return _revision(connection)


def migrate(connection: sa.Connection, revision: str) -> None:
    """Upgrade or downgrade to a migration (``base`` is the empty database) within the connection's transaction.

    Raises:
        InvalidSetting: the catalog is at a migration that this program does not know.
    """
    # Alembic is slow to import and rarely needed.
    from alembic import command, util
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        if revision == "base" or (_revision(connection) or "") > revision:
            command.downgrade(config, revision)
        else:
            command.upgrade(config, revision)
    except util.CommandError as error:
        raise InvalidSetting(
            f"expected a catalog at migration {REVISION} or before, got one at {_revision(connection)}; "
            "update this program"
        ) from error


def _revision(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)
