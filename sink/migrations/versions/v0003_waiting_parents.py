"""Waiting letters name the parent that is missing, so that a sweep finds those whose has come.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the parent's id, and an index on what waits."""
    op.add_column("oddslog_dead_letters", sa.Column("parent_id", sa.BigInteger))
    op.create_index(
        "idx_oddslog_dead_letters_waiting",
        "oddslog_dead_letters",
        ["field", "parent_id"],
        postgresql_where=sa.text("status = 'waiting'"),
    )


def downgrade() -> None:
    """Waiting letters wait on, and are tried one by one."""
    op.drop_index("idx_oddslog_dead_letters_waiting", "oddslog_dead_letters")
    op.drop_column("oddslog_dead_letters", "parent_id")
