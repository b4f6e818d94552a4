"""The content of two databases, table by table: what has to be equal after a replay."""
# ruff: noqa: S608 - our own names

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from tests.support.polls import rows

__all__ = ["content", "ledger"]

# Without the numbers and times that a database gives out by itself. The log by its
# names: its small number may be another one elsewhere.
_LOG = "g.topic, g.cluster_id, g.generation"
_MARKET = (
    "m.betpawa_market_id, m.betpawa_market_name, m.line, m.handicap_type, m.handicap_home,"
    " m.handicap_away, m.outcomes::text, m.market_groups::text, m.captured_at"
)
_SNAPSHOT = (
    "s.captured_at, s.scrape_run_id, s.raw_response::text, s.last_confirmed_at, s.content_hash,"
    f" s.log_partition, s.log_offset, {_LOG}"
)
_QUERIES = {
    "odds_snapshots": (
        f"SELECT s.event_id, s.bookmaker_id, {_SNAPSHOT} FROM odds_snapshots AS s"
        " LEFT JOIN oddslog_logs AS g USING (log_id) ORDER BY 1, 2, 3"
    ),
    "market_odds": (
        f"SELECT s.event_id, s.bookmaker_id, s.captured_at, {_MARKET}"
        " FROM market_odds AS m LEFT JOIN odds_snapshots AS s ON s.id = m.snapshot_id"
        " ORDER BY 1, 2, 3, m.id"
    ),
    "competitor_odds_snapshots": (
        f"SELECT s.competitor_event_id, {_SNAPSHOT} FROM competitor_odds_snapshots AS s"
        " LEFT JOIN oddslog_logs AS g USING (log_id) ORDER BY 1, 2"
    ),
    "competitor_market_odds": (
        f"SELECT s.competitor_event_id, s.captured_at, {_MARKET}"
        " FROM competitor_market_odds AS m"
        " LEFT JOIN competitor_odds_snapshots AS s ON s.id = m.snapshot_id ORDER BY 1, 2, m.id"
    ),
    "oddslog_pending_confirmations": (
        f"SELECT kind, event_id, bookmaker_id, captured_at, confirmed_at, {_LOG}"
        " FROM oddslog_pending_confirmations LEFT JOIN oddslog_logs AS g USING (log_id)"
        " ORDER BY 1, 2, 3, 4"
    ),
    "oddslog_dead_letters": (
        "SELECT log_partition, log_offset, item, status, reason, sqlstate, constraint_name, field,"
        " parent_id, message, kind, event_id, scrape_run_id, record_key, value, headers,"
        " redrives_seen, redrive_partition, redrive_offset, original_value,"
        f" appended_at, {_LOG} FROM oddslog_dead_letters LEFT JOIN oddslog_logs AS g USING (log_id)"
        " ORDER BY 1, 2, 3"
    ),
    # Of one batch put together: which partition a row names depends on how polls fell.
    "oddslog_run_batches": (
        "SELECT run_id, batch_id, max(batch_index), max(batch_count), max(fragment_count),"
        " (SELECT range_agg(part)::text FROM oddslog_run_batches AS o, unnest(o.fragments) AS part"
        "  WHERE o.run_id = r.run_id AND o.batch_id = r.batch_id), min(first_at), max(last_at)"
        " FROM oddslog_run_batches AS r GROUP BY run_id, batch_id ORDER BY 1, 2"
    ),
}


async def content(engine: AsyncEngine) -> dict[str, Sequence[Any]]:
    """Every table that the log fills, but for the ledger."""
    return {name: [*map(tuple, await rows(engine, query))] for name, query in _QUERIES.items()}


async def ledger(engine: AsyncEngine) -> Sequence[Any]:
    """The ledger's rows, without the times of their writing."""
    found = await rows(
        engine,
        "SELECT partition, next_offset, start_offset, accepted_gaps, last_offset, last_crc32,"
        " records_total, snapshots_total, markets_total, confirmations_total, duplicates_total,"
        f" dead_letters_total, {_LOG}"
        " FROM oddslog_ledger JOIN oddslog_logs AS g USING (log_id) ORDER BY partition",
    )
    return [*map(tuple, found)]
