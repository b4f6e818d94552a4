"""The tables, as they are after the newest migration.

The sink itself speaks SQL (`sql.py`); these models are for readers, and for the
test that compares them with the migrations. Where the parent tables (`events`,
`bookmakers`, `scrape_runs`, `competitor_events`) are, foreign keys point at them.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import INT4MULTIRANGE, JSON, JSONB

__all__ = ["LOG_TABLES", "PARENT_TABLES", "make_metadata"]

PARENT_TABLES = ("events", "bookmakers", "scrape_runs", "competitor_events")
LOG_TABLES = (
    "oddslog_logs",
    "oddslog_ledger",
    "oddslog_meta",
    "oddslog_pending_confirmations",
    "oddslog_dead_letters",
    "oddslog_run_batches",
)

# Rows from before the log have no hash and stay outside the natural keys.
_IN_LOG = text("content_hash IS NOT NULL")


def make_metadata(parents: Collection[str] = ()) -> MetaData:
    """The tables, with foreign keys to those of `PARENT_TABLES` that are in `parents`."""
    metadata = MetaData()
    for name in PARENT_TABLES:
        if name in parents:
            Table(name, metadata, Column("id", Integer, primary_key=True))
    _add_betpawa(metadata, parents)
    _add_competitor(metadata, parents)
    _add_ledger(metadata)
    _add_pending(metadata)
    _add_dead_letters(metadata)
    _add_run_batches(metadata)
    return metadata


def _time(name: str, **options: Any) -> Column[Any]:
    return Column(name, DateTime(timezone=True), **options)


def _parent_id(name: str, parent: str, parents: Collection[str], **options: Any) -> Column[Any]:
    if parent in parents:
        return Column(name, Integer, ForeignKey(f"{parent}.id"), **options)
    return Column(name, Integer, **options)


def _log_columns() -> list[Column[Any]]:
    """Which record wrote the row."""
    return [
        Column("content_hash", BigInteger),
        Column("log_id", Integer),
        Column("log_partition", Integer),
        Column("log_offset", BigInteger),
    ]


def _add_betpawa(metadata: MetaData, parents: Collection[str]) -> None:
    table = Table(
        "odds_snapshots",
        metadata,
        Column("id", BigInteger, autoincrement=True, nullable=False),
        _parent_id("event_id", "events", parents, nullable=False),
        _parent_id("bookmaker_id", "bookmakers", parents, nullable=False),
        _time("captured_at", nullable=False, server_default=func.now()),
        _parent_id("scrape_run_id", "scrape_runs", parents),
        Column("raw_response", JSONB),
        _time("last_confirmed_at"),
        *_log_columns(),
        PrimaryKeyConstraint("id", "captured_at"),
        Index("idx_snapshots_event", "event_id"),
        Index("idx_snapshots_bookmaker", "bookmaker_id"),
        Index("idx_snapshots_captured_brin", "captured_at", postgresql_using="brin"),
        Index(
            "uq_odds_snapshots_key",
            "event_id",
            "bookmaker_id",
            "captured_at",
            unique=True,
            postgresql_where=_IN_LOG,
        ),
        postgresql_partition_by="RANGE (captured_at)",
    )
    Index("idx_snapshots_event_time", table.c.event_id, table.c.captured_at.desc())
    _add_markets(metadata, "market_odds", "idx_market_odds")


def _add_competitor(metadata: MetaData, parents: Collection[str]) -> None:
    Table(
        "competitor_odds_snapshots",
        metadata,
        Column("id", BigInteger, primary_key=True, autoincrement=True),
        _parent_id("competitor_event_id", "competitor_events", parents, nullable=False),
        _time("captured_at", nullable=False, server_default=func.now()),
        _parent_id("scrape_run_id", "scrape_runs", parents),
        Column("raw_response", JSON),
        _time("last_confirmed_at"),
        *_log_columns(),
        Index("idx_competitor_odds_snapshots_event", "competitor_event_id"),
        Index("idx_competitor_odds_snapshots_captured", "captured_at"),
        Index(
            "uq_competitor_odds_snapshots_key",
            "competitor_event_id",
            "captured_at",
            unique=True,
            postgresql_where=_IN_LOG,
        ),
    )
    _add_markets(metadata, "competitor_market_odds", "idx_competitor_market_odds")


def _add_markets(metadata: MetaData, name: str, index_prefix: str) -> None:
    # No foreign key to the snapshots: a market row is only ever written in the
    # transaction that inserts its snapshot, and the check halves a COPY's speed.
    Table(
        name,
        metadata,
        Column("id", BigInteger, primary_key=True, autoincrement=True),
        Column("snapshot_id", BigInteger, nullable=False),
        Column("betpawa_market_id", String(50), nullable=False),
        Column("betpawa_market_name", String(255), nullable=False),
        Column("line", Float),
        Column("handicap_type", String(50)),
        Column("handicap_home", Float),
        Column("handicap_away", Float),
        Column("outcomes", JSON, nullable=False),
        Column("market_groups", JSON),
        _time("captured_at"),
        Index(f"{index_prefix}_snapshot", "snapshot_id"),
        Index(f"{index_prefix}_market", "betpawa_market_id"),
    )


def _add_ledger(metadata: MetaData) -> None:
    Table(
        "oddslog_logs",
        metadata,
        Column("log_id", Integer, Identity(), primary_key=True),
        Column("cluster_id", Text, nullable=False),
        Column("topic", Text, nullable=False),
        Column("generation", Integer, nullable=False),
        Column("partition_count", Integer, nullable=False),
        _time("created_at", nullable=False, server_default=func.now()),
        UniqueConstraint("cluster_id", "topic", "generation", name="uq_oddslog_logs"),
    )
    Table(
        "oddslog_ledger",
        metadata,
        Column("log_id", Integer, ForeignKey("oddslog_logs.log_id"), nullable=False),
        Column("partition", Integer, nullable=False),
        Column("next_offset", BigInteger, nullable=False),
        Column("start_offset", BigInteger, nullable=False),
        Column("accepted_gaps", JSONB, nullable=False, server_default=text("'[]'::jsonb")),
        Column("last_offset", BigInteger),
        Column("last_crc32", BigInteger),
        Column("ids_valid_from", BigInteger, nullable=False),
        *(
            Column(f"{total}_total", BigInteger, nullable=False, server_default=text("0"))
            for total in ("records", "snapshots", "markets", "confirmations")
        ),
        *(
            Column(f"{total}_total", BigInteger, nullable=False, server_default=text("0"))
            for total in ("duplicates", "dead_letters")
        ),
        _time("updated_at", nullable=False, server_default=func.now()),
        PrimaryKeyConstraint("log_id", "partition"),
    )
    Table(
        "oddslog_meta",
        metadata,
        Column("name", Text, primary_key=True),
        Column("value", JSONB, nullable=False),
        _time("updated_at", nullable=False, server_default=func.now()),
    )


def _add_pending(metadata: MetaData) -> None:
    Table(
        "oddslog_pending_confirmations",
        metadata,
        Column("kind", Text, nullable=False),
        Column("event_id", Integer, nullable=False),
        # 0 for a competitor: part of the key, so it cannot be null.
        Column("bookmaker_id", Integer, nullable=False),
        _time("captured_at", nullable=False),
        _time("confirmed_at", nullable=False),
        Column("log_id", Integer),
        Column("log_partition", Integer),
        Column("log_offset", BigInteger),
        Column("item", Integer, nullable=False),
        _time("created_at", nullable=False, server_default=func.now()),
        PrimaryKeyConstraint("kind", "event_id", "bookmaker_id", "captured_at"),
    )


def _add_dead_letters(metadata: MetaData) -> None:
    Table(
        "oddslog_dead_letters",
        metadata,
        Column("id", BigInteger, Identity(), primary_key=True),
        Column("status", Text, nullable=False),
        Column("reason", Text, nullable=False),
        Column("sqlstate", Text),
        Column("constraint_name", Text),
        Column("field", Text),
        # Of a waiting one: the id that its field names, whose row is missing.
        Column("parent_id", BigInteger),
        Column("message", Text, nullable=False),
        Column("kind", Text),
        Column("event_id", BigInteger),
        Column("record_key", LargeBinary),
        Column("value", LargeBinary),
        Column("headers", LargeBinary),
        Column("log_id", Integer),
        Column("log_partition", Integer),
        Column("log_offset", BigInteger),
        Column("item", Integer, nullable=False),
        Column("attempts", Integer, nullable=False, server_default=text("1")),
        _time("appended_at"),
        _time("first_seen_at", nullable=False, server_default=func.now()),
        _time("last_seen_at", nullable=False, server_default=func.now()),
        Column("oddslog_version", Text, nullable=False),
        # The run of the record that it came from.
        Column("scrape_run_id", BigInteger),
        # The bytes as they first came, where `value` was mended since.
        Column("original_value", LargeBinary),
        # How often it was sent again: what the operator's command says, and the sink saw.
        Column("redrives_sent", Integer, nullable=False, server_default=text("0")),
        Column("redrives_seen", Integer, nullable=False, server_default=text("0")),
        # The record that it was last sent again as, as far as the sink came.
        Column("redrive_log_id", Integer),
        Column("redrive_partition", Integer),
        Column("redrive_offset", BigInteger),
        # Who redrove or discarded it, when and why.
        Column("handled_by", Text),
        _time("handled_at"),
        Column("handled_why", Text),
        # When it went to the dead-letter topic.
        _time("published_at"),
        UniqueConstraint(
            "log_id", "log_partition", "log_offset", "item", name="uq_oddslog_dead_letters_source"
        ),
        Index("idx_oddslog_dead_letters_status", "status", "reason"),
        Index(
            "idx_oddslog_dead_letters_waiting",
            "field",
            "parent_id",
            postgresql_where=text("status = 'waiting'"),
        ),
        Index(
            "idx_oddslog_dead_letters_unpublished",
            "id",
            postgresql_where=text("status = 'dead' AND published_at IS NULL"),
        ),
        Index(
            "idx_oddslog_dead_letters_run",
            "scrape_run_id",
            postgresql_where=text("scrape_run_id IS NOT NULL"),
        ),
    )


def _add_run_batches(metadata: MetaData) -> None:
    # Several rows a batch: each member of the group writes those of its own partitions.
    Table(
        "oddslog_run_batches",
        metadata,
        Column("run_id", BigInteger, nullable=False),
        Column("batch_id", Uuid, nullable=False),
        # The lowest one that the fragments of its first transaction came from; -1: no log.
        Column("log_partition", Integer, nullable=False),
        Column("batch_index", BigInteger),
        Column("batch_count", BigInteger),
        Column("fragment_count", Integer, nullable=False),
        Column("fragments", INT4MULTIRANGE, nullable=False),
        _time("first_at", nullable=False),
        _time("last_at", nullable=False),
        PrimaryKeyConstraint("run_id", "batch_id", "log_partition"),
    )
