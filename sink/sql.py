"""Every statement of the sink's write path, named and explained.

Statements that exist once a kind of snapshot are made by `snapshot_statements`.
Arrays travel as one parameter a column (`unnest`), so a statement's text does
not depend on the number of rows and stays prepared.
"""

from dataclasses import dataclass
from functools import cache

from sqlalchemy import TextClause, text

from ..schemas.wire import Kind

__all__ = [
    "DROP_STRAY_LETTERS",
    "INSERT_DEAD_LETTERS",
    "LOCK_LEDGER",
    "MARKET_COLUMNS",
    "READ_ID_FLOORS",
    "SET_CONSTRAINTS_IMMEDIATE",
    "UPDATE_LEDGER",
    "UPSERT_PENDING",
    "SnapshotStatements",
    "parent_lookup",
    "snapshot_statements",
]

# Without it a deferred constraint would fail at COMMIT, where nothing can be isolated.
SET_CONSTRAINTS_IMMEDIATE = text("SET CONSTRAINTS ALL IMMEDIATE")

# Step 1. In partition order, so that two owners of several partitions cannot deadlock.
LOCK_LEDGER = text(
    "SELECT partition, next_offset, ids_valid_from FROM oddslog_ledger"
    " WHERE log_id = :log_id AND partition = ANY(CAST(:partitions AS int[]))"
    " ORDER BY partition FOR UPDATE"
)

# Step 6. Forward only, and only from the value that step 1 locked.
UPDATE_LEDGER = text(
    """
    UPDATE oddslog_ledger AS l
    SET next_offset = u.next_offset,
        last_offset = coalesce(u.last_offset, l.last_offset),
        last_crc32 = coalesce(u.last_crc32, l.last_crc32),
        records_total = l.records_total + u.records,
        snapshots_total = l.snapshots_total + u.snapshots,
        markets_total = l.markets_total + u.markets,
        confirmations_total = l.confirmations_total + u.confirmations,
        duplicates_total = l.duplicates_total + u.duplicates,
        dead_letters_total = l.dead_letters_total + u.dead_letters,
        updated_at = now()
    FROM unnest(
        CAST(:partitions AS int[]), CAST(:locked_offsets AS bigint[]),
        CAST(:next_offsets AS bigint[]), CAST(:last_offsets AS bigint[]),
        CAST(:last_crc32s AS bigint[]), CAST(:records AS bigint[]),
        CAST(:snapshots AS bigint[]), CAST(:markets AS bigint[]),
        CAST(:confirmations AS bigint[]), CAST(:duplicates AS bigint[]),
        CAST(:dead_letters AS bigint[])
    ) AS u(partition, locked_offset, next_offset, last_offset, last_crc32, records,
           snapshots, markets, confirmations, duplicates, dead_letters)
    WHERE l.log_id = :log_id AND l.partition = u.partition
      AND l.next_offset = u.locked_offset AND u.next_offset >= l.next_offset
    """
)

# Up to which id of each table a plain id of an older record can be trusted.
READ_ID_FLOORS = text("SELECT value FROM oddslog_meta WHERE name = 'id_floors'")

# Step 4. What confirms a snapshot that is not there yet waits for it here.
UPSERT_PENDING = text(
    """
    INSERT INTO oddslog_pending_confirmations AS p
        (kind, event_id, bookmaker_id, captured_at, confirmed_at,
         log_id, log_partition, log_offset, item)
    SELECT :kind, u.event_id, u.bookmaker_id, u.captured_at, u.confirmed_at,
           CAST(:log_id AS int), u.log_partition, u.log_offset, u.item
    FROM unnest(
        CAST(:event_ids AS int[]), CAST(:bookmaker_ids AS int[]),
        CAST(:captured_ats AS timestamptz[]), CAST(:confirmed_ats AS timestamptz[]),
        CAST(:log_partitions AS int[]), CAST(:log_offsets AS bigint[]), CAST(:items AS int[])
    ) AS u(event_id, bookmaker_id, captured_at, confirmed_at, log_partition, log_offset, item)
    ORDER BY u.event_id, u.bookmaker_id, u.captured_at
    ON CONFLICT (kind, event_id, bookmaker_id, captured_at)
    DO UPDATE SET confirmed_at = GREATEST(p.confirmed_at, EXCLUDED.confirmed_at)
    """
)

# Step 5. Letters that a record made before theirs was read (`redriven`), and that turn
# out to be another's: of a topic of the same name, deleted since. The time tells.
DROP_STRAY_LETTERS = text(
    """
    DELETE FROM oddslog_dead_letters AS d
    USING unnest(
        CAST(:log_partitions AS int[]), CAST(:log_offsets AS bigint[]), CAST(:items AS int[]),
        CAST(:appended_ats AS timestamptz[])
    ) AS u(log_partition, log_offset, item, appended_at)
    WHERE d.log_id = :log_id AND d.log_partition = u.log_partition
      AND d.log_offset = u.log_offset AND d.item = u.item
      AND d.headers IS NULL AND d.appended_at IS DISTINCT FROM u.appended_at
    """
)

# Step 5. A second time only counts an attempt: the first reason stays.
INSERT_DEAD_LETTERS = text(
    """
    INSERT INTO oddslog_dead_letters AS d
        (status, reason, sqlstate, constraint_name, field, parent_id, message, kind, event_id,
         record_key, value, headers, log_id, log_partition, log_offset, item,
         appended_at, oddslog_version, scrape_run_id, redrives_seen)
    SELECT u.status, u.reason, u.sqlstate, u.constraint_name, u.field, u.parent_id, u.message,
           u.kind, u.event_id, u.record_key, u.value, u.headers, CAST(:log_id AS int),
           u.log_partition, u.log_offset, u.item, u.appended_at, :oddslog_version,
           u.scrape_run_id, u.redrives
    FROM unnest(
        CAST(:statuses AS text[]), CAST(:reasons AS text[]), CAST(:sqlstates AS text[]),
        CAST(:constraint_names AS text[]), CAST(:fields AS text[]),
        CAST(:parent_ids AS bigint[]), CAST(:messages AS text[]),
        CAST(:kinds AS text[]), CAST(:event_ids AS bigint[]), CAST(:record_keys AS bytea[]),
        CAST(:values AS bytea[]), CAST(:headers AS bytea[]), CAST(:log_partitions AS int[]),
        CAST(:log_offsets AS bigint[]), CAST(:items AS int[]),
        CAST(:appended_ats AS timestamptz[]), CAST(:scrape_run_ids AS bigint[]),
        CAST(:redrives AS int[])
    ) AS u(status, reason, sqlstate, constraint_name, field, parent_id, message, kind, event_id,
           record_key, value, headers, log_partition, log_offset, item, appended_at,
           scrape_run_id, redrives)
    ON CONFLICT (log_id, log_partition, log_offset, item)
    DO UPDATE SET attempts = d.attempts + 1, last_seen_at = now(),
        -- Of one that was sent again before its own record was read (`redriven`).
        record_key = coalesce(d.record_key, EXCLUDED.record_key),
        headers = coalesce(d.headers, EXCLUDED.headers),
        original_value = coalesce(d.original_value, nullif(EXCLUDED.value, d.value))
    """
)

# The columns of both market tables, in the order of the rows that COPY takes.
MARKET_COLUMNS = (
    "snapshot_id",
    "captured_at",
    "betpawa_market_id",
    "betpawa_market_name",
    "line",
    "handicap_type",
    "handicap_home",
    "handicap_away",
    "outcomes",
    "market_groups",
)


@dataclass(frozen=True)
class SnapshotStatements:
    """The statements of one kind of snapshot, and the names of its tables."""

    snapshots_table: str
    markets_table: str
    event_column: str
    insert: TextClause
    look_up: TextClause
    take_pending: TextClause
    confirm: TextClause
    confirm_ids: TextClause
    sweep_pending: TextClause


@cache
def parent_lookup(table: str) -> TextClause:
    """Which of the ids are in a parent table."""
    return text(f"SELECT id FROM {table} WHERE id = ANY(CAST(:ids AS int[]))")  # noqa: S608


@cache
def snapshot_statements(kind: Kind) -> SnapshotStatements:
    """The statements of a kind."""
    if kind is Kind.BETPAWA:
        return _make("odds_snapshots", "market_odds", "event_id", "jsonb", has_bookmaker=True)
    return _make(
        "competitor_odds_snapshots",
        "competitor_market_odds",
        "competitor_event_id",
        "json",
        has_bookmaker=False,
    )


def _make(
    table: str, markets: str, event: str, json_type: str, *, has_bookmaker: bool
) -> SnapshotStatements:
    # `u` always has both ids, so that the parameters are the same for both kinds.
    key = f"{event}, bookmaker_id, captured_at" if has_bookmaker else f"{event}, captured_at"
    own = "s.bookmaker_id" if has_bookmaker else "0"
    order = (
        f"s.{event}, s.bookmaker_id, s.captured_at"
        if has_bookmaker
        else (f"s.{event}, s.captured_at")
    )
    match = f"s.{event} = u.event_id AND s.captured_at = u.captured_at"
    if has_bookmaker:
        match += " AND s.bookmaker_id = u.bookmaker_id"
    # Rows from before the log are outside the natural key: without the predicate
    # ON CONFLICT fails with 42P10, and look-ups could meet two rows.
    match += " AND s.content_hash IS NOT NULL"
    bookmaker = "u.bookmaker_id, " if has_bookmaker else ""
    keys = (
        "unnest(CAST(:event_ids AS int[]), CAST(:bookmaker_ids AS int[]),"
        " CAST(:captured_ats AS timestamptz[])) AS u(event_id, bookmaker_id, captured_at)"
    )
    return SnapshotStatements(
        table,
        markets,
        event,
        insert=text(
            # Step 3. In key order: two writers of the same keys wait, and do not deadlock.
            f"""
            INSERT INTO {table}
                ({key}, scrape_run_id, raw_response, last_confirmed_at, content_hash,
                 log_id, log_partition, log_offset)
            SELECT u.event_id, {bookmaker}u.captured_at, u.scrape_run_id,
                   CAST(u.raw_response AS {json_type}), u.captured_at, u.content_hash,
                   CAST(:log_id AS int), u.log_partition, u.log_offset
            FROM unnest(
                CAST(:event_ids AS int[]), CAST(:bookmaker_ids AS int[]),
                CAST(:captured_ats AS timestamptz[]), CAST(:scrape_run_ids AS int[]),
                CAST(:raw_responses AS text[]), CAST(:content_hashes AS bigint[]),
                CAST(:log_partitions AS int[]), CAST(:log_offsets AS bigint[])
            ) AS u(event_id, bookmaker_id, captured_at, scrape_run_id, raw_response,
                   content_hash, log_partition, log_offset)
            ORDER BY u.event_id, u.bookmaker_id, u.captured_at
            ON CONFLICT ({key}) WHERE content_hash IS NOT NULL DO NOTHING
            RETURNING id, {event} AS event_id,
                      {"bookmaker_id" if has_bookmaker else "0"} AS bookmaker_id, captured_at
            """  # noqa: S608
        ),
        look_up=text(
            # Step 3. What was there already: the same content, or another?
            f"SELECT u.event_id, u.bookmaker_id, u.captured_at, s.content_hash FROM {keys}"  # noqa: S608
            f" JOIN {table} AS s ON {match}"
        ),
        take_pending=text(
            # Step 3. Confirmations that came before their snapshot; taken and applied in one.
            f"""
            WITH taken AS (
                DELETE FROM oddslog_pending_confirmations AS p USING {keys}
                WHERE p.kind = :kind AND p.event_id = u.event_id
                  AND p.bookmaker_id = u.bookmaker_id AND p.captured_at = u.captured_at
                RETURNING p.event_id, p.bookmaker_id, p.captured_at, p.confirmed_at
            )
            UPDATE {table} AS s
            SET last_confirmed_at = GREATEST(s.last_confirmed_at, u.confirmed_at)
            FROM taken AS u WHERE {match}
            """  # noqa: S608
        ),
        confirm=text(
            # Step 4. Rows are locked in key order first: an UPDATE alone locks in plan
            # order. Returns each key that has a row, also where nothing had to change.
            f"""
            WITH locked AS (
                SELECT s.id, u.event_id, u.bookmaker_id, u.captured_at, u.confirmed_at
                FROM unnest(
                    CAST(:event_ids AS int[]), CAST(:bookmaker_ids AS int[]),
                    CAST(:captured_ats AS timestamptz[]), CAST(:confirmed_ats AS timestamptz[])
                ) AS u(event_id, bookmaker_id, captured_at, confirmed_at)
                JOIN {table} AS s ON {match}
                ORDER BY {order}
                FOR UPDATE OF s
            ), updated AS (
                UPDATE {table} AS s SET last_confirmed_at = u.confirmed_at
                FROM locked AS u
                WHERE s.id = u.id AND s.captured_at = u.captured_at
                  AND (s.last_confirmed_at IS NULL OR s.last_confirmed_at < u.confirmed_at)
            )
            SELECT event_id, bookmaker_id, captured_at FROM locked
            """  # noqa: S608
        ),
        confirm_ids=text(
            # Step 4. The same by plain id.
            f"""
            WITH locked AS (
                SELECT s.id, s.captured_at, u.confirmed_at
                FROM unnest(CAST(:ids AS bigint[]), CAST(:confirmed_ats AS timestamptz[]))
                     AS u(id, confirmed_at)
                JOIN {table} AS s ON s.id = u.id
                ORDER BY s.id FOR UPDATE OF s
            ), updated AS (
                UPDATE {table} AS s SET last_confirmed_at = u.confirmed_at
                FROM locked AS u
                WHERE s.id = u.id AND s.captured_at = u.captured_at
                  AND (s.last_confirmed_at IS NULL OR s.last_confirmed_at < u.confirmed_at)
            )
            SELECT id FROM locked
            """  # noqa: S608
        ),
        sweep_pending=text(
            # A confirmation and its snapshot that passed each other in two transactions.
            f"""
            WITH taken AS (
                DELETE FROM oddslog_pending_confirmations AS p USING {table} AS s
                WHERE p.kind = :kind AND s.{event} = p.event_id AND p.bookmaker_id = {own}
                  AND s.captured_at = p.captured_at AND s.content_hash IS NOT NULL
                RETURNING p.event_id, p.bookmaker_id, p.captured_at, p.confirmed_at
            )
            UPDATE {table} AS s
            SET last_confirmed_at = GREATEST(s.last_confirmed_at, u.confirmed_at)
            FROM taken AS u WHERE {match}
            """  # noqa: S608
        ),
    )
