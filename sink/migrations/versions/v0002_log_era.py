"""The log era: natural keys, content hashes, the ledger and its companions.

Revision ID: 0002
Revises: 0001
"""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_IN_LOG = sa.text("content_hash IS NOT NULL")
_TOTALS = ("records", "snapshots", "markets", "confirmations", "duplicates", "dead_letters")
_SNAPSHOTS = {
    "odds_snapshots": ("event_id", "bookmaker_id", "captured_at"),
    "competitor_odds_snapshots": ("competitor_event_id", "captured_at"),
}


def _time(name: str, *, now: bool = False) -> sa.Column[datetime]:
    return sa.Column(
        name,
        sa.DateTime(timezone=True),
        nullable=not now,
        server_default=sa.func.now() if now else None,
    )


def upgrade() -> None:
    """Make all times aware, add the natural keys and the sink's own tables."""
    _make_aware("odds_snapshots", "last_confirmed_at")
    _make_aware("competitor_odds_snapshots", "captured_at")
    _make_aware("competitor_odds_snapshots", "last_confirmed_at")
    for table, key in _SNAPSHOTS.items():
        op.add_column(table, sa.Column("content_hash", sa.BigInteger))
        op.add_column(table, sa.Column("log_id", sa.Integer))
        op.add_column(table, sa.Column("log_partition", sa.Integer))
        op.add_column(table, sa.Column("log_offset", sa.BigInteger))
        op.create_index(f"uq_{table}_key", table, [*key], unique=True, postgresql_where=_IN_LOG)
    for table in ("market_odds", "competitor_market_odds"):
        op.add_column(table, _time("captured_at"))
    op.drop_constraint(
        "competitor_market_odds_snapshot_id_fkey", "competitor_market_odds", type_="foreignkey"
    )
    _create_ledger()
    _create_pending()
    _create_dead_letters()


def _make_aware(table: str, column: str) -> None:
    """The scraper wrote naive UTC."""
    op.alter_column(
        table,
        column,
        type_=sa.DateTime(timezone=True),
        postgresql_using=f"{column} AT TIME ZONE 'UTC'",
    )


def _create_ledger() -> None:
    op.create_table(
        "oddslog_logs",
        sa.Column("log_id", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("cluster_id", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("partition_count", sa.Integer, nullable=False),
        _time("created_at", now=True),
        sa.UniqueConstraint("cluster_id", "topic", "generation", name="uq_oddslog_logs"),
    )
    op.create_table(
        "oddslog_ledger",
        sa.Column("log_id", sa.Integer, sa.ForeignKey("oddslog_logs.log_id"), nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
        sa.Column("start_offset", sa.BigInteger, nullable=False),
        sa.Column("accepted_gaps", JSONB, nullable=False, server_default=sa.text("'[]'::jsonb")),
        sa.Column("last_offset", sa.BigInteger),
        sa.Column("last_crc32", sa.BigInteger),
        sa.Column("ids_valid_from", sa.BigInteger, nullable=False),
        *(
            sa.Column(f"{total}_total", sa.BigInteger, nullable=False, server_default=sa.text("0"))
            for total in _TOTALS
        ),
        _time("updated_at", now=True),
        sa.PrimaryKeyConstraint("log_id", "partition"),
    )
    op.create_table(
        "oddslog_meta",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", JSONB, nullable=False),
        _time("updated_at", now=True),
    )


def _create_pending() -> None:
    op.create_table(
        "oddslog_pending_confirmations",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("event_id", sa.Integer, nullable=False),
        sa.Column("bookmaker_id", sa.Integer, nullable=False),
        sa.Column("captured_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("log_id", sa.Integer),
        sa.Column("log_partition", sa.Integer),
        sa.Column("log_offset", sa.BigInteger),
        sa.Column("item", sa.Integer, nullable=False),
        _time("created_at", now=True),
        sa.PrimaryKeyConstraint("kind", "event_id", "bookmaker_id", "captured_at"),
    )


def _create_dead_letters() -> None:
    op.create_table(
        "oddslog_dead_letters",
        sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("sqlstate", sa.Text),
        sa.Column("constraint_name", sa.Text),
        sa.Column("field", sa.Text),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("kind", sa.Text),
        sa.Column("event_id", sa.BigInteger),
        sa.Column("record_key", sa.LargeBinary),
        sa.Column("value", sa.LargeBinary),
        sa.Column("headers", sa.LargeBinary),
        sa.Column("log_id", sa.Integer),
        sa.Column("log_partition", sa.Integer),
        sa.Column("log_offset", sa.BigInteger),
        sa.Column("item", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("1")),
        _time("appended_at"),
        _time("first_seen_at", now=True),
        _time("last_seen_at", now=True),
        sa.Column("oddslog_version", sa.Text, nullable=False),
        sa.UniqueConstraint(
            "log_id", "log_partition", "log_offset", "item", name="uq_oddslog_dead_letters_source"
        ),
    )
    op.create_index("idx_oddslog_dead_letters_status", "oddslog_dead_letters", ["status", "reason"])


def downgrade() -> None:
    """Back to the scraper's tables; ledger, pending and dead letters are lost."""
    op.drop_table("oddslog_dead_letters")
    op.drop_table("oddslog_pending_confirmations")
    op.drop_table("oddslog_ledger")
    op.drop_table("oddslog_logs")
    op.drop_table("oddslog_meta")
    op.create_foreign_key(
        "competitor_market_odds_snapshot_id_fkey",
        "competitor_market_odds",
        "competitor_odds_snapshots",
        ["snapshot_id"],
        ["id"],
    )
    for table in ("market_odds", "competitor_market_odds"):
        op.drop_column(table, "captured_at")
    for table in _SNAPSHOTS:
        op.drop_index(f"uq_{table}_key", table)
        for column in ("content_hash", "log_id", "log_partition", "log_offset"):
            op.drop_column(table, column)
    for table, column in (
        ("odds_snapshots", "last_confirmed_at"),
        ("competitor_odds_snapshots", "captured_at"),
        ("competitor_odds_snapshots", "last_confirmed_at"),
    ):
        op.alter_column(
            table, column, type_=sa.DateTime(), postgresql_using=f"{column} AT TIME ZONE 'UTC'"
        )
