"""Bearer tokens."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NAME = sa.String(63)


def upgrade() -> None:
    """Create the table and the counter of its changes."""
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(12), primary_key=True),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("hash", sa.String(71), nullable=False),
        sa.Column("targets", sa.JSON, nullable=False),
        sa.Column("operations", sa.JSON, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.String(200), nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=True),
        sa.Column("revoked_at", sa.BigInteger, nullable=True),
        sa.Column("revoked_by", sa.String(200), nullable=True),
        sa.UniqueConstraint("name", name="tokens_name"),
    )
    op.execute("INSERT INTO counters (name, value) VALUES ('tokens', 0)")


def downgrade() -> None:
    """Take both away."""
    op.execute("DELETE FROM counters WHERE name = 'tokens'")
    op.drop_table("tokens")
