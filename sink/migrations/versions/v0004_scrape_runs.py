"""Scrape runs: which fragments of which batches have arrived, and whose letters are whose.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import INT4MULTIRANGE

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the arrivals, and the run of a dead letter."""
    op.create_table(
        "oddslog_run_batches",
        sa.Column("run_id", sa.BigInteger, nullable=False),
        sa.Column("batch_id", sa.Uuid, nullable=False),
        sa.Column("log_partition", sa.Integer, nullable=False),
        sa.Column("batch_index", sa.BigInteger),
        sa.Column("batch_count", sa.BigInteger),
        sa.Column("fragment_count", sa.Integer, nullable=False),
        sa.Column("fragments", INT4MULTIRANGE, nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "batch_id", "log_partition"),
    )
    op.add_column("oddslog_dead_letters", sa.Column("scrape_run_id", sa.BigInteger))
    op.create_index(
        "idx_oddslog_dead_letters_run",
        "oddslog_dead_letters",
        ["scrape_run_id"],
        postgresql_where=sa.text("scrape_run_id IS NOT NULL"),
    )


def downgrade() -> None:
    """What has arrived is forgotten; the letters stay."""
    op.drop_index("idx_oddslog_dead_letters_run", "oddslog_dead_letters")
    op.drop_column("oddslog_dead_letters", "scrape_run_id")
    op.drop_table("oddslog_run_batches")
