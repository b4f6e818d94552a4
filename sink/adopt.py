"""Adopting a log: the planned move of a database to another log, or to one made anew.

The one way in which a log's generation is raised. The rows that are in the tables
stay; what the new log brings is added to them, idempotently as always.
"""

from collections.abc import Mapping

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from .ledger import LogIdentity, add_rows

__all__ = ["adopt_log"]

# Two adoptions at once: the second waits, and gets the next generation.
_LOCK = text("LOCK TABLE oddslog_logs IN SHARE ROW EXCLUSIVE MODE")
_INSERT_GENERATION = text(
    "INSERT INTO oddslog_logs (cluster_id, topic, generation, partition_count)"
    " SELECT :cluster_id, :topic, coalesce(max(generation), 0) + 1, :partition_count"
    " FROM oddslog_logs WHERE cluster_id = :cluster_id AND topic = :topic"
    " RETURNING log_id, generation"
)


async def adopt_log(
    engine: AsyncEngine, log: LogIdentity, *, ends: Mapping[int, int] | None
) -> tuple[int, int]:
    """Register a new generation of a log, in one transaction.

    From then on the sinks read this generation; one that runs keeps the old one
    until its partitions are placed anew, so none should run.

    Args:
        engine: of the database.
        log: the log as the cluster has it now.
        ends: go on from these ends of its partitions. None leaves the ledger empty,
            and the sink begins at the log's start, where a start that is not 0 is a
            gap as ever.

    Returns:
        The new log id and its generation.
    """
    async with engine.begin() as connection:
        await connection.execute(_LOCK)
        row = (
            await connection.execute(
                _INSERT_GENERATION,
                {
                    "cluster_id": log.cluster_id,
                    "topic": log.topic,
                    "partition_count": log.partition_count,
                },
            )
        ).one()
        if ends is not None:
            # Plain ids in records from here on were read from these tables.
            starts = {partition: (end, None) for partition, end in ends.items()}
            await add_rows(connection, row.log_id, starts, ends, first_time=True)
    return int(row.log_id), int(row.generation)
