"""Room in the pages of snapshots, so that a confirmation changes no index.

Each cycle confirms most snapshots: `last_confirmed_at`, which no index has. Where the
page has room, PostgreSQL writes the new version there and leaves the indexes alone
(HOT). Measured over 40 cycles: 98 % of the updates instead of 22 %, indexes smaller by
18 %, the tables larger by 5 %; 85 gave 59 %, 50 gave 100 % of tables larger by 8 %.
Rows that are there stay where they are.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
oldest_code = "0005"
branch_labels = None
depends_on = None

_FILL_FACTOR = 70


def _tables() -> list[str]:
    """Those that hold rows; quoted, with their schema where it takes one."""
    leaves = op.get_bind().execute(
        sa.text(
            "SELECT relid::regclass::text FROM pg_partition_tree('odds_snapshots')"
            " WHERE isleaf ORDER BY 1"
        )
    )
    return [*leaves.scalars(), "competitor_odds_snapshots"]


def upgrade() -> None:
    """Set it for what is there; a partition that is made later has to be given it."""
    for table in _tables():
        op.execute(f"ALTER TABLE {table} SET (fillfactor = {_FILL_FACTOR})")


def downgrade() -> None:
    """Fill pages whole again."""
    for table in _tables():
        op.execute(f"ALTER TABLE {table} RESET (fillfactor)")
