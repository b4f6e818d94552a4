"""Scrape runs in the database: what has arrived of them, kept by the data transaction.

A row is written by one member at a time (see `Arrival`), so members that write the
same run do not wait for each other. Readers put a run's rows together.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ..schemas.kill_points import reached
from .arrivals import Arrival, multirange
from .run_states import ScrapeRun

__all__ = ["prune_runs", "read_run", "read_runs", "write_arrivals"]

# A page of runs that are deleted in one transaction: of the real load about 3,000 rows.
_PAGE_RUNS = 50
_MOST_PAGES = 20

# In the order of the key. Everything commutes: writing it again changes nothing.
_UPSERT = text(
    """
    INSERT INTO oddslog_run_batches AS r
        (run_id, batch_id, log_partition, batch_index, batch_count, fragment_count, fragments,
         first_at, last_at)
    SELECT u.run_id, u.batch_id, u.log_partition, u.batch_index, u.batch_count,
           u.fragment_count, CAST(u.fragments AS int4multirange),
           coalesce(u.first_at, now()), coalesce(u.last_at, now())
    FROM unnest(
        CAST(:run_ids AS bigint[]), CAST(:batch_ids AS uuid[]), CAST(:partitions AS int[]),
        CAST(:batch_indexes AS bigint[]), CAST(:batch_counts AS bigint[]),
        CAST(:fragment_counts AS int[]), CAST(:fragments AS text[]),
        CAST(:first_ats AS timestamptz[]), CAST(:last_ats AS timestamptz[])
    ) AS u(run_id, batch_id, log_partition, batch_index, batch_count, fragment_count, fragments,
           first_at, last_at)
    ORDER BY u.run_id, u.batch_id, u.log_partition
    ON CONFLICT (run_id, batch_id, log_partition) DO UPDATE
    SET batch_index = GREATEST(r.batch_index, EXCLUDED.batch_index),
        batch_count = GREATEST(r.batch_count, EXCLUDED.batch_count),
        fragment_count = GREATEST(r.fragment_count, EXCLUDED.fragment_count),
        fragments = r.fragments + EXCLUDED.fragments,
        first_at = LEAST(r.first_at, EXCLUDED.first_at),
        last_at = GREATEST(r.last_at, EXCLUDED.last_at)
    """
)

# From rows to batches (by id), to the best batch of each index, to runs. A batch of
# which nothing could be decoded has no index: it counts as one of its own.
_READ = """
    WITH parts AS (
        SELECT run_id, batch_id, unnest(range_agg(part)) AS part
        FROM oddslog_run_batches, unnest(fragments) AS part {where}
        GROUP BY run_id, batch_id
    ), arrived AS (
        SELECT run_id, batch_id, sum(upper(part) - lower(part)) AS arrived
        FROM parts GROUP BY run_id, batch_id
    ), batches AS (
        SELECT run_id, batch_id, max(batch_index) AS batch_index, max(batch_count) AS batch_count,
               max(fragment_count) AS fragment_count, min(first_at) AS first_at,
               max(last_at) AS last_at
        FROM oddslog_run_batches {where} GROUP BY run_id, batch_id
    ), best AS (
        SELECT DISTINCT ON (run_id, batch_index, unnamed) *
        FROM (
            SELECT *, CASE WHEN batch_index IS NULL THEN batch_id END AS unnamed,
                   arrived >= fragment_count AS whole
            FROM batches JOIN arrived USING (run_id, batch_id)
        ) AS b
        ORDER BY run_id, batch_index, unnamed, whole DESC, arrived DESC
    ), runs AS (
        SELECT run_id, max(batch_count) AS batches_expected, min(first_at) AS first_arrival_at,
               max(last_at) AS last_arrival_at
        FROM batches GROUP BY run_id
    ), letters AS (
        SELECT scrape_run_id AS run_id, count(*) AS dead_letters,
               count(*) FILTER (WHERE status = 'waiting') AS waiting
        FROM oddslog_dead_letters
        WHERE scrape_run_id IS NOT NULL AND status IN ('dead', 'waiting') {letters}
        GROUP BY scrape_run_id
    )
    SELECT run_id, batches_expected, count(*) FILTER (WHERE whole) AS batches_arrived,
           count(*) AS batches_begun, CAST(sum(arrived) AS bigint) AS fragments_arrived,
           sum(fragment_count) AS fragments_expected,
           coalesce(max(dead_letters), 0) AS dead_letters, coalesce(max(waiting), 0) AS waiting,
           first_arrival_at, last_arrival_at,
           CAST(extract(epoch FROM now() - last_arrival_at) AS float) AS idle_seconds
    FROM best
    JOIN (SELECT run_id, batches_expected, first_arrival_at, last_arrival_at FROM runs) AS r
        USING (run_id)
    LEFT JOIN letters USING (run_id)
    GROUP BY run_id, batches_expected, first_arrival_at, last_arrival_at
"""
_READ_ALL = text(_READ.format(where="", letters=""))
_READ_RECENT = text(
    _READ.format(
        where="WHERE run_id IN (SELECT run_id FROM oddslog_run_batches"
        " WHERE last_at > now() - make_interval(secs => :seconds))",
        letters="",
    )
)
_READ_ONE = text(
    _READ.format(where="WHERE run_id = :run_id", letters="AND scrape_run_id = :run_id")
)

# Whole runs: of one that is pruned in part it would seem that the rest is late. Rows that
# a member writes just now are left to the next time.
_PRUNE = text(
    """
    WITH old AS (
        SELECT run_id FROM oddslog_run_batches GROUP BY run_id
        HAVING max(last_at) < now() - make_interval(secs => :seconds)
        ORDER BY run_id LIMIT :runs
    ), doomed AS (
        SELECT run_id, batch_id, log_partition FROM oddslog_run_batches
        WHERE run_id IN (SELECT run_id FROM old)
        ORDER BY run_id, batch_id, log_partition FOR UPDATE SKIP LOCKED
    ), deleted AS (
        DELETE FROM oddslog_run_batches AS r USING doomed AS d
        WHERE r.run_id = d.run_id AND r.batch_id = d.batch_id
          AND r.log_partition = d.log_partition
        RETURNING r.run_id
    )
    SELECT count(DISTINCT run_id) FROM deleted
    """
)


async def write_arrivals(connection: AsyncConnection, arrivals: Sequence[Arrival]) -> None:
    """Add what has arrived, inside the running transaction; no arrivals cost nothing.

    Raises:
        Whatever PostgreSQL or the driver raises (see `classify`); never over content.
    """
    if not arrivals:
        return
    await connection.execute(
        _UPSERT,
        {
            "run_ids": [a.run_id for a in arrivals],
            "batch_ids": [a.batch_id for a in arrivals],
            "partitions": [a.partition for a in arrivals],
            "batch_indexes": [a.batch_index for a in arrivals],
            "batch_counts": [a.batch_count for a in arrivals],
            "fragment_counts": [a.fragment_count for a in arrivals],
            "fragments": [multirange(a.fragments) for a in arrivals],
            "first_ats": [a.first_at for a in arrivals],
            "last_ats": [a.last_at for a in arrivals],
        },
    )


async def read_runs(
    connection: AsyncConnection, *, within_seconds: float | None = None
) -> list[ScrapeRun]:
    """Every run that is kept, or those of which something came within that time; in no order."""
    if within_seconds is None:
        return await _read(connection, _READ_ALL, {})
    return await _read(connection, _READ_RECENT, {"seconds": within_seconds})


async def read_run(connection: AsyncConnection, run_id: int) -> ScrapeRun | None:
    """One run; None where nothing of it has arrived."""
    found = await _read(connection, _READ_ONE, {"run_id": run_id})
    return found[0] if found else None


async def prune_runs(engine: AsyncEngine, retention_seconds: float) -> int:
    """Forget the runs of which nothing came for so long; returns how many.

    In pages, each in one transaction; what is left of very many goes the next time.

    Raises:
        Whatever PostgreSQL, the driver or the network raises (see `classify`).
    """
    pruned = 0
    for _ in range(_MOST_PAGES):
        async with engine.connect() as connection:
            async with connection.begin():
                found = await connection.execute(
                    _PRUNE, {"seconds": retention_seconds, "runs": _PAGE_RUNS}
                )
                page: int = found.scalar_one()
                reached("sink.before_prune_commit")
            reached("sink.after_prune_commit")
        pruned += page
        if page < _PAGE_RUNS:
            break
    return pruned


async def _read(
    connection: AsyncConnection, statement: TextClause, parameters: dict[str, Any]
) -> list[ScrapeRun]:
    rows = await connection.execute(statement, parameters)
    return [ScrapeRun(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name
