"""Alembic's entry point: it runs this file with the connection passed to ``migrate``."""

from alembic import context

from registry.catalog.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
context.run_migrations()
