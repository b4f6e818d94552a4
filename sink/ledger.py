"""The ledger in the database: registering a log, reading and moving positions.

All rows of a log are made at once, in a transaction of its own: a row that is
missing later can only mean that the database went back.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ..schemas.errors import ProtectionError
from .errors import WrongLogError
from .positions import Gap, LastApplied, LedgerRow

__all__ = [
    "LogIdentity",
    "add_rows",
    "lock_log",
    "mark_went_back",
    "move_over_gap",
    "note_floors",
    "read_rows",
    "register_log",
]

_LOCK_LOG = text("SELECT partition_count FROM oddslog_logs WHERE log_id = :log_id FOR UPDATE")
_FIND_LOG = text(
    "SELECT log_id, partition_count FROM oddslog_logs"
    " WHERE cluster_id = :cluster_id AND topic = :topic ORDER BY generation DESC LIMIT 1"
)
# Another cluster's log under this name, with anything written from it.
_FIND_OTHER = text(
    "SELECT g.cluster_id FROM oddslog_logs AS g JOIN oddslog_ledger AS l USING (log_id)"
    " WHERE g.topic = :topic AND g.cluster_id <> :cluster_id AND l.last_offset IS NOT NULL LIMIT 1"
)
_INSERT_LOG = text(
    "INSERT INTO oddslog_logs (cluster_id, topic, generation, partition_count)"
    " VALUES (:cluster_id, :topic, :generation, :partition_count)"
    " ON CONFLICT (cluster_id, topic, generation) DO NOTHING"
)
_READ_ROWS = text(
    "SELECT partition, next_offset, start_offset, ids_valid_from, last_offset, last_crc32,"
    " updated_at FROM oddslog_ledger WHERE log_id = :log_id ORDER BY partition"
)
_INSERT_ROW = text(
    "INSERT INTO oddslog_ledger"
    " (log_id, partition, next_offset, start_offset, ids_valid_from, accepted_gaps)"
    " VALUES (:log_id, :partition, :next_offset, :next_offset, :ids_valid_from,"
    " CAST(:gaps AS jsonb)) ON CONFLICT (log_id, partition) DO NOTHING"
)
_MOVE_OVER_GAP = text(
    "UPDATE oddslog_ledger SET next_offset = :to_offset, last_offset = NULL, last_crc32 = NULL,"
    " accepted_gaps = accepted_gaps || CAST(:gaps AS jsonb), updated_at = now()"
    " WHERE log_id = :log_id AND partition = :partition AND next_offset = :from_offset"
)
_SET_IDS_VALID_FROM = text(
    "UPDATE oddslog_ledger SET ids_valid_from = :ids_valid_from"
    " WHERE log_id = :log_id AND partition = :partition"
)
_IS_REFILLING = text(
    # Of any log: the tables and their ids are the same for all.
    "SELECT EXISTS (SELECT FROM oddslog_ledger WHERE next_offset < ids_valid_from)"
    " AND EXISTS (SELECT FROM oddslog_meta WHERE name = 'id_floors')"
)
_READ_FLOORS_SOURCE = text(
    "SELECT (SELECT coalesce(max(id), 0) FROM odds_snapshots) AS betpawa,"
    " (SELECT coalesce(max(id), 0) FROM competitor_odds_snapshots) AS competitor"
)
_WRITE_FLOORS = text(
    "INSERT INTO oddslog_meta (name, value) VALUES ('id_floors', CAST(:value AS jsonb))"
    " ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value, updated_at = now()"
)
# What the first replay into a database without a ledger has found: the ids of the rows
# that it writes were never seen by who wrote the log.
_NOTE_FLOORS = text(
    "INSERT INTO oddslog_meta (name, value) VALUES ('id_floors_before_replay',"
    " CAST(:value AS jsonb)) ON CONFLICT (name) DO NOTHING"
)
_TAKE_NOTED_FLOORS = text(
    "DELETE FROM oddslog_meta WHERE name = 'id_floors_before_replay' RETURNING value"
)


@dataclass(frozen=True, slots=True)
class LogIdentity:
    """Which log: a topic of a cluster, with its partitions."""

    cluster_id: str
    topic: str
    partition_count: int


async def register_log(connection: AsyncConnection, log: LogIdentity) -> int:
    """The small `log_id` of the log's newest generation, made if it is new.

    The log's row is locked until the transaction ends, so that the members of a
    group take their first positions one after the other.

    Raises:
        WrongLogError: this database was filled from another cluster under the
            same topic, or the topic has fewer partitions than it had.
    """
    names = {"cluster_id": log.cluster_id, "topic": log.topic}
    row = (await connection.execute(_FIND_LOG, names)).one_or_none()
    if row is None:
        other = (await connection.execute(_FIND_OTHER, names)).first()
        if other is not None:
            raise WrongLogError(
                f"topic {log.topic} of cluster {log.cluster_id}: this database was filled from"
                f" cluster {other.cluster_id}. If the log was moved on purpose, see:"
                " oddslog ledger adopt --help"
            )
        await connection.execute(
            _INSERT_LOG, {**names, "generation": 1, "partition_count": log.partition_count}
        )
        row = (await connection.execute(_FIND_LOG, names)).one()
    await lock_log(connection, row.log_id, log)
    return int(row.log_id)


async def lock_log(connection: AsyncConnection, log_id: int, log: LogIdentity) -> None:
    """Lock the log's row, and note that its topic has grown.

    Raises:
        WrongLogError: the topic has fewer partitions than it had.
    """
    known = (await connection.execute(_LOCK_LOG, {"log_id": log_id})).scalar_one()
    if log.partition_count < known:
        raise WrongLogError(
            f"topic {log.topic} has {log.partition_count} partitions and had {known}: it was made"
            " anew. If the log was moved on purpose, see: oddslog ledger adopt --help"
        )
    if log.partition_count > known:
        await connection.execute(
            text("UPDATE oddslog_logs SET partition_count = :count WHERE log_id = :log_id"),
            {"count": log.partition_count, "log_id": log_id},
        )


async def read_rows(connection: AsyncConnection, log_id: int) -> dict[int, LedgerRow]:
    """The ledger's rows of a log by partition."""
    rows = await connection.execute(_READ_ROWS, {"log_id": log_id})
    return {
        row.partition: LedgerRow(
            row.partition,
            row.next_offset,
            row.ids_valid_from,
            None if row.last_offset is None else LastApplied(row.last_offset, row.last_crc32),
            row.start_offset,
            row.updated_at,
        )
        for row in rows
    }


async def add_rows(
    connection: AsyncConnection,
    log_id: int,
    starts: Mapping[int, tuple[int, Gap | None]],
    ends: Mapping[int, int],
    *,
    first_time: bool,
) -> None:
    """Make the rows of partitions that have none; the log must be locked.

    Args:
        connection: in a transaction.
        log_id: the log.
        starts: the first offset of each new partition, with the gap before it.
        ends: where each partition of the log ends now: from there on a plain id
            was read from this database as it is (0 for one that was just added).
        first_time: no partition had a row: note up to which id older plain ids
            can be trusted.
    """
    if first_time:
        await _raise_floors(connection, first_time=True)
    for partition, (start, gap) in sorted(starts.items()):
        await connection.execute(
            _INSERT_ROW,
            {
                "log_id": log_id,
                "partition": partition,
                "next_offset": start,
                "ids_valid_from": ends[partition],
                "gaps": _gaps_json([] if gap is None else [gap]),
            },
        )


async def mark_went_back(connection: AsyncConnection, log_id: int, ends: Mapping[int, int]) -> None:
    """Note that the database was restored; the log must be locked.

    Afterwards plain ids of records that are in the log now are trusted only up
    to the highest id that the restored tables have at this moment. While records
    of an earlier such moment are still being filled in, the floors stay where they
    are: ids above them are given out anew by the refill.
    """
    await _raise_floors(connection, first_time=False)
    for partition, end in ends.items():
        await connection.execute(
            _SET_IDS_VALID_FROM,
            {"log_id": log_id, "partition": partition, "ids_valid_from": end},
        )


async def move_over_gap(connection: AsyncConnection, log_id: int, partition: int, gap: Gap) -> None:
    """Go on behind an accepted gap, and note it; the log must be locked.

    Raises:
        ProtectionError: the row is not where the gap was found.
    """
    moved = await connection.execute(
        _MOVE_OVER_GAP,
        {
            "log_id": log_id,
            "partition": partition,
            "from_offset": gap.from_offset,
            "to_offset": gap.to_offset,
            "gaps": _gaps_json([gap]),
        },
    )
    if moved.rowcount != 1:
        raise ProtectionError(f"partition {partition}: another process moved the ledger")


async def note_floors(connection: AsyncConnection) -> None:
    """Note the highest ids before a replay writes into a database without a ledger.

    The ledger's first row takes them as the floors, however many rows were replayed
    by then; the earliest note stays.
    """
    await connection.execute(_NOTE_FLOORS, {"value": await _highest_ids(connection)})


async def _raise_floors(connection: AsyncConnection, *, first_time: bool) -> None:
    if (await connection.execute(_IS_REFILLING)).scalar_one():
        return
    noted = (await connection.execute(_TAKE_NOTED_FLOORS)).scalar_one_or_none()
    if first_time and noted is not None:
        value = json.dumps(noted)
    else:
        value = await _highest_ids(connection)
    await connection.execute(_WRITE_FLOORS, {"value": value})


async def _highest_ids(connection: AsyncConnection) -> str:
    row = (await connection.execute(_READ_FLOORS_SOURCE)).one()
    return json.dumps({"betpawa": row.betpawa, "competitor": row.competitor})


def _gaps_json(gaps: Sequence[Gap]) -> str:
    return json.dumps([{"from": gap.from_offset, "to": gap.to_offset} for gap in gaps])
