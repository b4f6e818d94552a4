"""What the commands ask the database; they change nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ..sink.poison import cause_of

__all__ = [
    "Cause",
    "DatabaseState",
    "KnownLog",
    "dead_letter_causes",
    "dead_letter_counts",
    "known_logs",
    "read_database",
]

_LOGS = text(
    "SELECT log_id, cluster_id, topic, generation, partition_count, created_at"
    " FROM oddslog_logs ORDER BY log_id"
)
_LEDGER = text(
    "SELECT log_id, partition, next_offset, start_offset, accepted_gaps, last_offset,"
    " ids_valid_from, records_total, snapshots_total, markets_total, confirmations_total,"
    " duplicates_total, dead_letters_total, updated_at"
    " FROM oddslog_ledger ORDER BY log_id, partition"
)
_LETTER_COUNTS = text(
    "SELECT status, reason, count(*) AS letters FROM oddslog_dead_letters"
    " GROUP BY status, reason ORDER BY letters DESC, status, reason"
)
_PENDING = text("SELECT count(*) FROM oddslog_pending_confirmations")
_SIZE = text("SELECT pg_database_size(current_database())")
# A cause is what an operator would mend once for all of its letters: the field without
# the number of its market. The example is the newest of them; its source is where
# `replay` would find it.
_CAUSES = text(
    r"""
    SELECT c.*, e.message, e.kind, e.event_id, e.log_id, e.log_partition, e.log_offset, e.item,
           g.topic
    FROM (
        SELECT status, reason, sqlstate, constraint_name,
               regexp_replace(field, '\[[0-9]+\]', '[]', 'g') AS field, count(*) AS letters,
               min(first_seen_at) AS first_seen_at, max(last_seen_at) AS last_seen_at,
               max(id) AS example_id
        FROM oddslog_dead_letters
        WHERE (CAST(:status AS text) IS NULL OR status = :status)
          AND (CAST(:reason AS text) IS NULL OR reason = :reason)
          AND (CAST(:since AS timestamptz) IS NULL OR last_seen_at >= :since)
        GROUP BY 1, 2, 3, 4, 5
        ORDER BY letters DESC, max(id) DESC
        LIMIT :limit
    ) AS c
    JOIN oddslog_dead_letters AS e ON e.id = c.example_id
    LEFT JOIN oddslog_logs AS g ON g.log_id = e.log_id
    ORDER BY c.letters DESC, c.example_id DESC
    """
)


@dataclass(frozen=True)
class KnownLog:
    """A log that this database knows, with its ledger rows by partition."""

    log_id: int
    cluster_id: str
    topic: str
    generation: int
    partition_count: int
    created_at: datetime
    rows: Mapping[int, Any]


@dataclass(frozen=True)
class DatabaseState:
    """What `status` shows of a database."""

    logs: Sequence[KnownLog]
    dead_letters: Sequence[tuple[str, str, int]]
    pending_confirmations: int
    size_bytes: int

    def newest_log(self, topic: str, cluster_id: str | None) -> KnownLog | None:
        """The newest generation of a topic's log; of any cluster where it is not known."""
        found = [
            log for log in self.logs if log.topic == topic and cluster_id in (None, log.cluster_id)
        ]
        return max(found, key=lambda log: (log.generation, log.log_id), default=None)


@dataclass(frozen=True)
class Cause:
    """Dead letters that died of the same."""

    status: str
    reason: str
    sqlstate: str | None
    constraint: str | None
    field: str | None
    letters: int
    first_seen_at: datetime
    last_seen_at: datetime
    example: Mapping[str, Any]

    @property
    def name(self) -> str:
        """As `sink --accept-poison` and `dlq redrive --all-of-cause` take it."""
        return cause_of(self.reason, self.sqlstate, self.constraint, self.field)


async def known_logs(connection: AsyncConnection) -> list[KnownLog]:
    """Every log, oldest first."""
    rows: dict[int, dict[int, Any]] = {}
    for row in await connection.execute(_LEDGER):
        rows.setdefault(row.log_id, {})[row.partition] = row
    return [
        KnownLog(
            log.log_id,
            log.cluster_id,
            log.topic,
            log.generation,
            log.partition_count,
            log.created_at,
            rows.get(log.log_id, {}),
        )
        for log in await connection.execute(_LOGS)
    ]


async def dead_letter_counts(connection: AsyncConnection) -> list[tuple[str, str, int]]:
    """How many there are by status and reason."""
    return [
        (row.status, row.reason, row.letters) for row in await connection.execute(_LETTER_COUNTS)
    ]


async def dead_letter_causes(
    connection: AsyncConnection,
    *,
    status: str | None,
    reason: str | None,
    limit: int,
    since: datetime | None = None,
) -> list[Cause]:
    """The causes with the most letters first; `since`: of letters last seen from then on."""
    parameters = {"status": status, "reason": reason, "limit": limit, "since": since}
    found = await connection.execute(_CAUSES, parameters)
    return [
        Cause(
            row.status,
            row.reason,
            row.sqlstate,
            row.constraint_name,
            row.field,
            row.letters,
            row.first_seen_at,
            row.last_seen_at,
            {
                "id": row.example_id,
                "topic": row.topic,
                "log_id": row.log_id,
                "partition": row.log_partition,
                "offset": row.log_offset,
                "item": row.item,
                "kind": row.kind,
                "event_id": row.event_id,
                "message": row.message,
            },
        )
        for row in found
    ]


async def read_database(connection: AsyncConnection) -> DatabaseState:
    """What `status` shows, in one go."""
    return DatabaseState(
        await known_logs(connection),
        await dead_letter_counts(connection),
        (await connection.execute(_PENDING)).scalar_one(),
        (await connection.execute(_SIZE)).scalar_one(),
    )
