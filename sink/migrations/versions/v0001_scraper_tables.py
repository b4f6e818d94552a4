"""The scraper's tables as they were before the log.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSON, JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _parent_id(name: str, parent: str, *, nullable: bool = True) -> sa.Column[int]:
    """A foreign key where the parent table is, else a plain column."""
    if sa.inspect(op.get_bind()).has_table(parent):
        return sa.Column(name, sa.Integer, sa.ForeignKey(f"{parent}.id"), nullable=nullable)
    return sa.Column(name, sa.Integer, nullable=nullable)


def upgrade() -> None:
    """Make the four tables of odds, `odds_snapshots` with its default partition."""
    op.create_table(
        "odds_snapshots",
        sa.Column("id", sa.BigInteger, autoincrement=True, nullable=False),
        _parent_id("event_id", "events", nullable=False),
        _parent_id("bookmaker_id", "bookmakers", nullable=False),
        sa.Column(
            "captured_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.func.now(),
        ),
        _parent_id("scrape_run_id", "scrape_runs"),
        sa.Column("raw_response", JSONB),
        sa.Column("last_confirmed_at", sa.DateTime),
        sa.PrimaryKeyConstraint("id", "captured_at"),
        postgresql_partition_by="RANGE (captured_at)",
    )
    op.execute("CREATE TABLE odds_snapshots_default PARTITION OF odds_snapshots DEFAULT")
    op.create_index("idx_snapshots_event", "odds_snapshots", ["event_id"])
    op.create_index("idx_snapshots_bookmaker", "odds_snapshots", ["bookmaker_id"])
    op.create_index(
        "idx_snapshots_event_time", "odds_snapshots", ["event_id", sa.text("captured_at DESC")]
    )
    op.create_index(
        "idx_snapshots_captured_brin", "odds_snapshots", ["captured_at"], postgresql_using="brin"
    )
    op.create_table(
        "competitor_odds_snapshots",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=True),
        _parent_id("competitor_event_id", "competitor_events", nullable=False),
        sa.Column("captured_at", sa.DateTime, nullable=False, server_default=sa.func.now()),
        _parent_id("scrape_run_id", "scrape_runs"),
        sa.Column("raw_response", JSON),
        sa.Column("last_confirmed_at", sa.DateTime),
    )
    op.create_index(
        "idx_competitor_odds_snapshots_event", "competitor_odds_snapshots", ["competitor_event_id"]
    )
    op.create_index(
        "idx_competitor_odds_snapshots_captured", "competitor_odds_snapshots", ["captured_at"]
    )
    _create_markets("market_odds", None)
    _create_markets("competitor_market_odds", "competitor_odds_snapshots")


def _create_markets(table: str, snapshots: str | None) -> None:
    snapshot_id = (
        sa.Column("snapshot_id", sa.BigInteger, nullable=False)
        if snapshots is None
        else sa.Column(
            "snapshot_id", sa.BigInteger, sa.ForeignKey(f"{snapshots}.id"), nullable=False
        )
    )
    op.create_table(
        table,
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=True),
        snapshot_id,
        sa.Column("betpawa_market_id", sa.String(50), nullable=False),
        sa.Column("betpawa_market_name", sa.String(255), nullable=False),
        sa.Column("line", sa.Float),
        sa.Column("handicap_type", sa.String(50)),
        sa.Column("handicap_home", sa.Float),
        sa.Column("handicap_away", sa.Float),
        sa.Column("outcomes", JSON, nullable=False),
        sa.Column("market_groups", JSON),
    )
    op.create_index(f"idx_{table}_snapshot", table, ["snapshot_id"])
    op.create_index(f"idx_{table}_market", table, ["betpawa_market_id"])


def downgrade() -> None:
    """Drop the tables, with all that is in them."""
    op.drop_table("competitor_market_odds")
    op.drop_table("market_odds")
    op.drop_table("competitor_odds_snapshots")
    op.drop_table("odds_snapshots")
