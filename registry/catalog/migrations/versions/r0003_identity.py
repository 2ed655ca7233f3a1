"""The registry's id and epoch."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and a random id."""
    identity = op.create_table(
        "identity",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("epoch", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(identity, [{"id": secrets.token_hex(16), "epoch": 0}])


def downgrade() -> None:
    """Take it away."""
    op.drop_table("identity")
