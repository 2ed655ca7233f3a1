"""The catalog's tables, as the newest migration leaves them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from registry.digests import PREFIX

REVISION = "0004"
"""The newest migration."""

_DIGEST = sa.String(len(PREFIX) + 64)
_NAME = sa.String(63)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Instant(sa.types.TypeDecorator[datetime]):
    """A time as whole microseconds since 1970: exact and sortable in every database."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        """Turn an aware datetime into microseconds."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> datetime | None:
        """Turn microseconds into a datetime in UTC."""
        return None if value is None else _EPOCH + value * _MICROSECOND


metadata = sa.MetaData()

counters = sa.Table(
    "counters",
    metadata,
    sa.Column("name", _NAME, primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)
"""``events``: the id of the last event. With a sequence a reader could see 8 before 7.
``stages``: the id of the last event that moved a stage.
``tokens``: how many times a token was added or revoked; locking the row locks the tokens."""

identity = sa.Table(
    "identity",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
)
"""One row: ``Identity``."""

transfers = sa.Table(
    "transfers",
    metadata,
    sa.Column("source", _NAME, primary_key=True),
    sa.Column("target", _NAME, primary_key=True),
    sa.Column("next_number", sa.Integer, nullable=False),
)

targets = sa.Table(
    "targets",
    metadata,
    sa.Column("name", _NAME, primary_key=True),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("hash", _DIGEST, nullable=True),
    sa.Column("stage_event", sa.BigInteger, nullable=False),
)
"""The end of each target's chain of events, and its last stage event. Locking the row locks the target."""

events = sa.Table(
    "events",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("target", _NAME, sa.ForeignKey("targets.name"), nullable=False),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("at", Instant, nullable=False),
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
"""Append-only, enforced by triggers."""

versions = sa.Table(
    "versions",
    metadata,
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
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("promoted", sa.Boolean, nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False),
    sa.ForeignKeyConstraint(["source", "target"], ["transfers.source", "transfers.target"]),
    sa.UniqueConstraint("source", "target", "number", name="versions_ref"),
    sa.Index("versions_target", "target", "event"),
    sa.Index("versions_technique", "technique", "event"),
    sa.Index("versions_parent", "parent"),
)
"""``promoted``: was ever moved to a stage. ``deleted``: a tombstone; its number is not reused."""
sa.Index(
    "versions_digest",
    versions.c.digest,
    unique=True,
    sqlite_where=sa.not_(versions.c.deleted),
    postgresql_where=sa.not_(versions.c.deleted),
)

stages = sa.Table(
    "stages",
    metadata,
    sa.Column("target", _NAME, sa.ForeignKey("targets.name"), primary_key=True),
    sa.Column("stage", _NAME, primary_key=True),
    sa.Column("version", sa.BigInteger, sa.ForeignKey("versions.event"), nullable=False, index=True),
)
"""The stages computed from the events, stored for searches."""

blobs = sa.Table(
    "blobs",
    metadata,
    sa.Column("digest", _DIGEST, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("since", Instant, nullable=False),
    sa.CheckConstraint("state IN ('staged', 'live', 'condemned')", name="blobs_state"),
)

refs = sa.Table(
    "refs",
    metadata,
    sa.Column("version", sa.BigInteger, sa.ForeignKey("versions.event"), primary_key=True),
    sa.Column("digest", _DIGEST, sa.ForeignKey("blobs.digest"), primary_key=True, index=True),
    sa.Column("kind", sa.Text, primary_key=True),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("digest", _DIGEST, sa.ForeignKey("blobs.digest"), primary_key=True),
    sa.Column("holder", sa.String(63), primary_key=True, index=True),
    sa.Column("expires", Instant, nullable=False),
)

exports = sa.Table(
    "exports",
    metadata,
    sa.Column("weights", _DIGEST, primary_key=True),
    sa.Column("digest", _DIGEST, sa.ForeignKey("blobs.digest"), nullable=False, index=True),
)
"""The segment that weights were exported to."""

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.String(12), primary_key=True),
    sa.Column("name", _NAME, nullable=False),
    sa.Column("hash", _DIGEST, nullable=False),
    sa.Column("targets", sa.JSON, nullable=False),
    sa.Column("operations", sa.JSON, nullable=False),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("created_by", sa.String(200), nullable=False),
    sa.Column("expires_at", Instant, nullable=True),
    sa.Column("revoked_at", Instant, nullable=True),
    sa.Column("revoked_by", sa.String(200), nullable=True),
    sa.UniqueConstraint("name", name="tokens_name"),
)
"""Bearer tokens, as hashes only; rows are never deleted."""
