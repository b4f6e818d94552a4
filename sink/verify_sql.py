"""The statements of a verification, in one place; all of them only read."""

from dataclasses import dataclass
from functools import cache

from sqlalchemy import TextClause, text

from ..schemas.wire import Kind
from .sql import snapshot_statements

__all__ = [
    "LEDGER",
    "LETTERS",
    "LOGS",
    "NAMED_LETTERS",
    "PENDING",
    "RAW_TYPE",
    "READ_ID_FLOORS",
    "SETTINGS",
    "UNKNOWN_LETTERS",
    "VerifyStatements",
    "verify_statements",
]

# For this transaction only. It waits for Kafka between its statements, and takes as
# long as the tables are large; one that is stopped for good lets go after ten minutes.
SETTINGS = (
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL idle_in_transaction_session_timeout = '10min'",
    "SET LOCAL jit = off",
)
SETTING_OF_TRANSACTIONS = "SET LOCAL transaction_timeout = 0"  # PostgreSQL 17

RAW_TYPE = text(
    "SELECT format_type(atttypid, NULL) FROM pg_attribute"
    " WHERE attrelid = to_regclass(CAST(:table AS text)) AND attname = 'raw_response'"
    " AND NOT attisdropped"
)
LOGS = text("SELECT log_id, cluster_id, topic, generation, partition_count FROM oddslog_logs")
LEDGER = text(
    "SELECT log_id, partition, next_offset, start_offset, ids_valid_from, accepted_gaps,"
    " last_offset, last_crc32 FROM oddslog_ledger"
)
READ_ID_FLOORS = text("SELECT value FROM oddslog_meta WHERE name = 'id_floors'")
# Of a part of the log: uses the unique key of their source.
LETTERS = text(
    """
    SELECT d.log_partition, d.log_offset, d.item, d.status, d.redrives_seen > 0 AS resent
    FROM unnest(CAST(:partitions AS int[]), CAST(:starts AS bigint[]), CAST(:ends AS bigint[]))
         AS u(partition, first, last)
    JOIN oddslog_dead_letters AS d
      ON d.log_id = :log_id AND d.log_partition = u.partition
     AND d.log_offset >= u.first AND d.log_offset < u.last
    """
)
# Letters that records sent again name, in any generation of their topic.
NAMED_LETTERS = text(
    """
    SELECT d.log_partition, d.log_offset, d.item, d.status, d.redrive_partition, d.redrive_offset
    FROM unnest(CAST(:partitions AS int[]), CAST(:offsets AS bigint[])) AS u(partition, place)
    JOIN oddslog_dead_letters AS d
      ON d.log_id = ANY(CAST(:log_ids AS int[])) AND d.log_partition = u.partition
     AND d.log_offset = u.place
    """
)
PENDING = text(
    """
    SELECT p.event_id, p.bookmaker_id, p.captured_at, p.confirmed_at
    FROM unnest(CAST(:event_ids AS int[]), CAST(:bookmaker_ids AS int[]),
                CAST(:captured_ats AS timestamptz[])) AS u(event_id, bookmaker_id, captured_at)
    JOIN oddslog_pending_confirmations AS p
      ON p.kind = :kind AND p.event_id = u.event_id AND p.bookmaker_id = u.bookmaker_id
     AND p.captured_at = u.captured_at
    """
)
# A pending confirmation that expired: its letter names the first record that made it,
# and holds the latest time of all of them.
UNKNOWN_LETTERS = text(
    # Every status is named so that the index on status and reason is used.
    "SELECT value FROM oddslog_dead_letters WHERE reason = 'unknown_snapshot' AND kind = :kind"
    " AND status IN ('dead', 'waiting', 'written', 'redriven', 'discarded')"
    " AND event_id = ANY(CAST(:event_ids AS bigint[]))"
)


@dataclass(frozen=True)
class VerifyStatements:
    """The statements of one kind of snapshot, and the names of its tables."""

    snapshots_table: str
    markets_table: str
    rows: TextClause
    rows_by_id: TextClause
    markets: TextClause
    market_counts: TextClause
    equal_raws: TextClause
    raw_texts: TextClause
    page: TextClause
    orphans: TextClause


@cache
def verify_statements(kind: Kind, raw_is_jsonb: bool) -> VerifyStatements:
    """The statements of a kind; the raw response's column is `jsonb`, or keeps its text."""
    own = snapshot_statements(kind)
    table, markets, event = own.snapshots_table, own.markets_table, own.event_column
    betpawa = kind is Kind.BETPAWA
    bookmaker = "s.bookmaker_id" if betpawa else "0"
    match = f"s.{event} = u.event_id AND s.captured_at = u.captured_at"
    if betpawa:
        match += " AND s.bookmaker_id = u.bookmaker_id"
    columns = (
        f"s.id, s.{event} AS event_id, {bookmaker} AS bookmaker_id, s.captured_at,"
        " s.scrape_run_id, s.last_confirmed_at, s.content_hash, s.log_id, s.log_partition,"
        " s.log_offset"
    )
    equal = (
        "s.raw_response IS NOT DISTINCT FROM CAST(u.raw AS jsonb)"
        if raw_is_jsonb
        else "CAST(s.raw_response AS text) IS NOT DISTINCT FROM u.raw"
    )
    arrays = ", ".join(
        f"array_agg({expression}) AS {name}"
        for name, expression in (
            ("betpawa_market_id", "x.betpawa_market_id"),
            ("betpawa_market_name", "x.betpawa_market_name"),
            ("line", "x.line"),
            ("handicap_type", "x.handicap_type"),
            ("handicap_home", "x.handicap_home"),
            ("handicap_away", "x.handicap_away"),
            ("outcomes", "CAST(x.outcomes AS text)"),
            ("market_groups", "CAST(x.market_groups AS text)"),
            ("captured_at", "x.captured_at"),
        )
    )
    return VerifyStatements(
        table,
        markets,
        rows=text(
            f"SELECT {columns} FROM unnest(CAST(:event_ids AS int[]),"  # noqa: S608
            " CAST(:bookmaker_ids AS int[]), CAST(:captured_ats AS timestamptz[]))"
            " AS u(event_id, bookmaker_id, captured_at)"
            f" JOIN {table} AS s ON {match} AND s.content_hash IS NOT NULL"
        ),
        rows_by_id=text(
            f"SELECT {columns} FROM {table} AS s"  # noqa: S608
            " WHERE s.id = ANY(CAST(:ids AS bigint[]))"
        ),
        # One row a snapshot and one array a column: a third of the cost of a row a market.
        markets=text(
            f"SELECT i.id, m.* FROM unnest(CAST(:ids AS bigint[])) AS i(id)"  # noqa: S608
            f" CROSS JOIN LATERAL (SELECT {arrays} FROM ("
            f"SELECT * FROM {markets} WHERE snapshot_id = i.id ORDER BY id) AS x) AS m"
        ),
        market_counts=text(
            f"SELECT i.id, (SELECT count(*) FROM {markets} AS m WHERE m.snapshot_id = i.id)"  # noqa: S608
            " AS markets FROM unnest(CAST(:ids AS bigint[])) AS i(id)"
        ),
        equal_raws=text(
            "SELECT u.n FROM unnest(CAST(:numbers AS int[]), CAST(:ids AS bigint[]),"  # noqa: S608
            " CAST(:captured_ats AS timestamptz[]), CAST(:raws AS text[]))"
            f" AS u(n, id, captured_at, raw) JOIN {table} AS s"
            f" ON s.id = u.id AND s.captured_at = u.captured_at WHERE {equal}"
        ),
        raw_texts=text(
            f"SELECT CAST(raw_response AS text) AS raw FROM {table}"  # noqa: S608
            " WHERE id = :id AND captured_at = :captured_at"
        ),
        page=text(
            f"SELECT {columns} FROM {table} AS s"  # noqa: S608
            " WHERE (s.id, s.captured_at) > (:id, CAST(:captured_at AS timestamptz))"
            " ORDER BY s.id, s.captured_at LIMIT :rows"
        ),
        orphans=text(
            "SELECT o.*, sum(o.rows) OVER () AS total FROM ("  # noqa: S608
            "SELECT m.snapshot_id, count(*) AS rows, max(m.id) AS last_id"
            f" FROM {markets} AS m WHERE NOT EXISTS"
            f" (SELECT FROM {table} AS s WHERE s.id = m.snapshot_id)"
            " AND NOT (m.captured_at IS NULL AND m.snapshot_id BETWEEN 1 AND :floor)"
            " GROUP BY m.snapshot_id"
            ") AS o ORDER BY o.snapshot_id LIMIT :groups"
        ),
    )
