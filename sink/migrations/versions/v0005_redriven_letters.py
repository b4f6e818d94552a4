"""Dead letters say who sent them again or discarded them, and keep what was mended.

Revision ID: 0005
Revises: 0004
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TABLE = "oddslog_dead_letters"


def _columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("original_value", sa.LargeBinary),
        sa.Column("redrives_sent", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("redrives_seen", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("redrive_log_id", sa.Integer),
        sa.Column("redrive_partition", sa.Integer),
        sa.Column("redrive_offset", sa.BigInteger),
        sa.Column("handled_by", sa.Text),
        sa.Column("handled_at", sa.DateTime(timezone=True)),
        sa.Column("handled_why", sa.Text),
    ]


def upgrade() -> None:
    """Add the columns; letters that are there were never sent again."""
    for column in _columns():
        op.add_column(_TABLE, column)


def downgrade() -> None:
    """What was mended stays; the bytes as they first came, and who did it, are lost."""
    for column in reversed(_columns()):
        op.drop_column(_TABLE, column.name)
