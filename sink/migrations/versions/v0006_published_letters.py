"""Dead letters say when they went to the dead-letter topic.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
oldest_code = "0005"
branch_labels = None
depends_on = None

_TABLE = "oddslog_dead_letters"
_INDEX = "idx_oddslog_dead_letters_unpublished"


def upgrade() -> None:
    """Add the column; of letters that are there, nobody knows of a copy."""
    op.add_column(_TABLE, sa.Column("published_at", sa.DateTime(timezone=True)))
    op.create_index(
        _INDEX,
        _TABLE,
        ["id"],
        postgresql_where=sa.text("status = 'dead' AND published_at IS NULL"),
    )


def downgrade() -> None:
    """Migrated again, all dead letters go to the topic once more."""
    op.drop_index(_INDEX, _TABLE)
    op.drop_column(_TABLE, "published_at")
