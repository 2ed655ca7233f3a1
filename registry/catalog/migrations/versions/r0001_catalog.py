"""The first catalog: transfers, versions, stages, events, blobs and the claims on them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_DIGEST = sa.String(71)
_NAME = sa.String(63)


def upgrade() -> None:
    """Create every table, and the triggers that make events append-only."""
    op.create_table(
        "counters",
        sa.Column("name", _NAME, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO counters (name, value) VALUES ('events', 0)")
    op.create_table(
        "transfers",
        sa.Column("source", _NAME, primary_key=True),
        sa.Column("target", _NAME, primary_key=True),
        sa.Column("next_number", sa.Integer, nullable=False),
    )
    op.create_table(
        "targets",
        sa.Column("name", _NAME, primary_key=True),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("hash", _DIGEST, nullable=True),
        sa.Column("stage_event", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("target", _NAME, sa.ForeignKey("targets.name"), nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String(200), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("source", _NAME, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("stage", _NAME, nullable=True),
        sa.Column("reason", sa.Text, nullable=True),
        sa.Column("forced", sa.Boolean, nullable=False),
        sa.Column("previous", _DIGEST, nullable=True),
        sa.Column("hash", _DIGEST, nullable=False),
        sa.UniqueConstraint("target", "seq", name="events_target_seq"),
    )
    op.create_table(
        "versions",
        sa.Column("event", sa.BigInteger, sa.ForeignKey("events.id"), primary_key=True, autoincrement=False),
        sa.Column("digest", _DIGEST, nullable=False),
        sa.Column("source", _NAME, nullable=False),
        sa.Column("target", _NAME, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("technique", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("space_id", _DIGEST, nullable=True),
        sa.Column("parent", _DIGEST, nullable=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("promoted", sa.Boolean, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        sa.ForeignKeyConstraint(["source", "target"], ["transfers.source", "transfers.target"]),
        sa.UniqueConstraint("source", "target", "number", name="versions_ref"),
    )
    op.create_index("versions_target", "versions", ["target", "event"])
    op.create_index("versions_technique", "versions", ["technique", "event"])
    op.create_index("versions_parent", "versions", ["parent"])
    live = sa.text("NOT deleted")
    op.create_index(
        "versions_digest", "versions", ["digest"], unique=True, sqlite_where=live, postgresql_where=live
    )
    op.create_table(
        "stages",
        sa.Column("target", _NAME, sa.ForeignKey("targets.name"), primary_key=True),
        sa.Column("stage", _NAME, primary_key=True),
        sa.Column("version", sa.BigInteger, sa.ForeignKey("versions.event"), nullable=False),
    )
    op.create_index("ix_stages_version", "stages", ["version"])
    op.create_table(
        "blobs",
        sa.Column("digest", _DIGEST, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.CheckConstraint("state IN ('staged', 'live', 'condemned')", name="blobs_state"),
    )
    op.create_table(
        "refs",
        sa.Column("version", sa.BigInteger, sa.ForeignKey("versions.event"), primary_key=True),
        sa.Column("digest", _DIGEST, sa.ForeignKey("blobs.digest"), primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
    )
    op.create_index("ix_refs_digest", "refs", ["digest"])
    op.create_table(
        "leases",
        sa.Column("digest", _DIGEST, sa.ForeignKey("blobs.digest"), primary_key=True),
        sa.Column("holder", sa.String(63), primary_key=True),
        sa.Column("expires", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_leases_holder", "leases", ["holder"])
    op.create_table(
        "exports",
        sa.Column("weights", _DIGEST, primary_key=True),
        sa.Column("digest", _DIGEST, sa.ForeignKey("blobs.digest"), nullable=False),
    )
    op.create_index("ix_exports_digest", "exports", ["digest"])
    for statement in _TRIGGERS[op.get_bind().dialect.name]:
        op.execute(statement)


def downgrade() -> None:
    """Drop everything, including events."""
    for table in (
        "exports", "leases", "refs", "blobs", "stages", "versions", "events", "targets", "transfers", "counters",
    ):  # fmt: skip
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION refuse_change_of_events()")


_TRIGGERS = {
    "sqlite": (
        """CREATE TRIGGER events_are_not_updated BEFORE UPDATE ON events
           BEGIN SELECT RAISE(ABORT, 'events are append-only'); END""",
        """CREATE TRIGGER events_are_not_deleted BEFORE DELETE ON events
           BEGIN SELECT RAISE(ABORT, 'events are append-only'); END""",
    ),
    "postgresql": (
        """CREATE FUNCTION refuse_change_of_events() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'events are append-only'; END $$""",
        """CREATE TRIGGER events_are_not_changed BEFORE UPDATE OR DELETE ON events
           FOR EACH ROW EXECUTE FUNCTION refuse_change_of_events()""",
        """CREATE TRIGGER events_are_not_truncated BEFORE TRUNCATE ON events
           FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_events()""",
    ),
}
