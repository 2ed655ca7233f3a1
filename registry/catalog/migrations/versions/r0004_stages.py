"""A separate counter of stage events."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Initialise the counter with the last stage event."""
    op.execute(
        "INSERT INTO counters (name, value) SELECT 'stages', COALESCE(MAX(stage_event), 0) FROM targets"
    )


def downgrade() -> None:
    """Take it away."""
    op.execute("DELETE FROM counters WHERE name = 'stages'")
